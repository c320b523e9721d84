"""Who has an account. No Django in here: the tests read it too."""

USER = "ann"
USER_PASSWORD = "a pass+word & more: 100 % é"
ACTION_USER = "action-ann"

# Not form-encoded, any of these characters is lost or splits the credential (RFC 6749 §2.3.1).
MACHINE = {"client_id": "machine:1", "client_secret": "s:%+/& é=?"}
PEOPLE = {"client_id": "people", "client_secret": "for people's clients"}
