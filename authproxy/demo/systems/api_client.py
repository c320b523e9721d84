"""What Code42 and Incydr have in common: the token of an API client."""

from typing import ClassVar

from aiohttp import web

from authproxy.demo.accounts import CLIENT_ID, CLIENT_SECRET, is_login
from authproxy.demo.standin import Endpoint, Received, StandIn, oauth_error


class ApiClient(StandIn):
    """A token for an API client: Basic without form-encoding, `grant_type` in the query, no body."""

    token_lifetime = 900
    token_path: ClassVar[str]
    wants_grant_type: ClassVar[bool] = True

    @property
    def endpoints(self) -> dict[str, tuple[str, Endpoint]]:
        return {self.token_path: ("POST", self.client_token)}

    def client_token(self, received: Received) -> web.Response:
        if received.body:
            return oauth_error(400, "invalid_request", "The request must not have a body")
        if self.wants_grant_type and "grant_type" not in received.query:
            return oauth_error(400, "invalid_request", "Missing query parameter: grant_type")
        if received.query.get("grant_type", "client_credentials") != "client_credentials":
            return oauth_error(400, "unsupported_grant_type", "Only client_credentials is supported")
        if not is_login(received.basic, CLIENT_ID, CLIENT_SECRET):
            return oauth_error(401, "invalid_client", "Unknown client, or a wrong secret")
        return self.access_token()
