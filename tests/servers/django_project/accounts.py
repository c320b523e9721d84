"""Who has an account. No Django in here: the tests read it too."""

USER = "ann"
USER_PASSWORD = "a pass+word & more: 100 % é"
ACTION_USER = "action-ann"

# Not form-encoded, any of these characters is lost or splits the credential (RFC 6749 §2.3.1).
MACHINE = {"client_id": "machine:1", "client_secret": "s:%+/& é=?"}
PEOPLE = {"client_id": "people", "client_secret": "for people's clients"}

# These log in with a browser; the redirect URI's port may be any (RFC 8252 §7.3).
WEB_APP = {"client_id": "web:app", "client_secret": "w:%+/& é=?"}
PHONE_APP = {"client_id": "phone-app"}
REDIRECT_URI = "http://127.0.0.1/callback"
TELEVISION = {"client_id": "television"}
