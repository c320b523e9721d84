"""Make the database, fill it, and serve on a free port, which the first line of stdout names."""

import os

import django
from django.core.management import call_command
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
from django.core.wsgi import get_wsgi_application

from tests.servers.django_project import accounts


class Server(ThreadedWSGIServer):
    request_queue_size = 128  # a crowd that overflows the queue waits a second for its next try


class QuietRequestHandler(WSGIRequestHandler):
    def log_message(self, *_):
        pass


def fill():
    from django.contrib.auth.models import User  # noqa: PLC0415 - models come after `django.setup()`
    from oauth2_provider.models import Application  # noqa: PLC0415

    user = User.objects.create_user(accounts.USER, password=accounts.USER_PASSWORD)
    User.objects.create_user(accounts.ACTION_USER)
    for client, grant in (
        (accounts.MACHINE, "client-credentials"),
        (accounts.PEOPLE, "password"),
        (accounts.WEB_APP, "authorization-code"),
        (accounts.PHONE_APP, "authorization-code"),
        (accounts.TELEVISION, Application.GRANT_DEVICE_CODE),
    ):
        Application.objects.create(
            **client,
            user=user,
            client_type="confidential" if "client_secret" in client else "public",
            authorization_grant_type=grant,
            redirect_uris=accounts.REDIRECT_URI if grant == "authorization-code" else "",
        )


def main():
    server = Server(("127.0.0.1", 0), QuietRequestHandler)
    os.environ["SITE_URL"] = f"http://127.0.0.1:{server.server_port}"
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.servers.django_project.settings"
    django.setup()
    call_command("migrate", run_syncdb=True, verbosity=0)
    fill()
    server.set_app(get_wsgi_application())
    print(f"listening on {os.environ['SITE_URL']}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
