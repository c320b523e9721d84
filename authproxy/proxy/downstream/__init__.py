"""The client's side: bytes come in, an answer goes out."""
