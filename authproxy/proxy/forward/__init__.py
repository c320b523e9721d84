"""Forward mode: clients that name us as their HTTP proxy (RFC 9110 §9.3.6, RFC 9112 §3.2.2)."""
