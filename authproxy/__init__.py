"""A local authenticating reverse proxy: it gets the right token, keeps it fresh and adds it."""

__version__ = "0.2.0"
