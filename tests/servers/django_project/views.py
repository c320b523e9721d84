"""The APIs. Each answers with what it received."""

from oauth2_provider.contrib.rest_framework import OAuth2Authentication, TokenHasScope
from rest_framework.authentication import SessionAuthentication, TokenAuthentication
from rest_framework.response import Response
from rest_framework.views import APIView


class ActionTokenAuthentication(TokenAuthentication):
    keyword = "ActionToken"


class Echo(APIView):
    def get(self, request):
        return Response(
            {
                "user": request.user.username if request.user else None,
                "method": request.method,
                "target": request.get_full_path(),
                "authorization": request.headers.get("Authorization"),
                "body": request.stream.read().decode() if request.stream else "",
            }
        )

    post = get


class Events(Echo):
    """For users: `Authorization: Token …`."""

    authentication_classes = (TokenAuthentication,)


class Actions(Echo):
    """For actions: `Authorization: ActionToken …`."""

    authentication_classes = (ActionTokenAuthentication,)


class Calendars(Echo):
    """Answers a wrong token with 403, as Calendar42 documents.

    That is what REST framework says when its first authentication class has no challenge to offer.
    """

    authentication_classes = (SessionAuthentication, TokenAuthentication)


class Resource(Echo):
    """Protected by OAuth 2.0: a Bearer token with the scope `read`."""

    authentication_classes = (OAuth2Authentication,)
    permission_classes = (TokenHasScope,)
    required_scopes = ("read",)
