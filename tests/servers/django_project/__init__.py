"""A small Django project: Django REST framework's tokens, and django-oauth-toolkit as identity provider.

Both are used as they come; only the settings and a few views are ours. `/control/` is for the tests: what
arrived, and how to revoke what was handed out. Start it with `python -m tests.servers.django_project`.
"""
