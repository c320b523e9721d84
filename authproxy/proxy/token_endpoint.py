"""A credential's own token endpoint, where it is on the upstream: nothing of a client's is forwarded there.

Who asks there logs in. A client's dummy credentials would be a strike against the account, and a token that
somebody else gets may end ours.
"""

from collections.abc import Callable, Iterable
from urllib.parse import parse_qsl, unquote, urlsplit

from authproxy.errors import Forbidden
from authproxy.proxy.router import is_plain, path_interpretations
from authproxy.values import is_loopback, port_of

HINT = (
    "let authproxy answer the client's login: list its path below the route in `stand_in`, or turn the login "
    "off in the client; `incoming: replace` forwards such requests all the same"
)
HOW = frozenset({"", "true", "false", "yes", "no", "on", "off", "0", "1"})
"""Values of a query that say how something is asked, and not what."""

OAUTH = frozenset({
    "grant_type", "client_id", "client_secret", "username", "password", "scope", "audience", "resource",
    "assertion", "client_assertion", "refresh_token", "code",
})  # fmt: skip
"""Parameters of token requests: whatever they say, a token is asked for."""

Parameters = list[tuple[str, str]]


class TokenEndpoints:
    """The endpoints among `urls` that are on the server of `upstream`, a URL.

    `published` gives those that the authorization server alone knows, as soon as it has been asked.
    """

    def __init__(
        self,
        upstream: str,
        urls: Iterable[str] = (),
        published: Callable[[], Iterable[str]] | None = None,
    ) -> None:
        self._server = _server(upstream)
        self._published = published
        self._known: Iterable[str] = ()
        self._places: dict[str, list[Parameters]] = {}  # by path: what the query says, of each endpoint
        self._add(urls)

    def __bool__(self) -> bool:
        """Whether there are any, or may be."""
        return bool(self._places) or self._published is not None

    def _add(self, urls: Iterable[str]) -> None:
        for url in urls:
            parts = urlsplit(url)
            if _server(url) == self._server:
                queries = self._places.setdefault(_plain(unquote(parts.path)), [])
                queries.append(_parameters(parts.query))

    def check(self, target: str) -> None:
        """Raise `Forbidden` if a raw `target`, as it goes to the upstream, is one of them in any reading."""
        if self._published is not None and (urls := self._published()) != self._known:
            self._known = urls
            self._add(urls)
        path, _, query = target.partition("?")
        if is_plain(path):  # as a rule
            found = self._places.get(_plain(path), ())
        else:
            readings = {_plain(each) for each in path_interpretations(path, "/")}
            found = [own for place in readings for own in self._places.get(place, ())]
        if found and any(not _differs(own, query) for own in found):
            raise Forbidden("that is the token endpoint of this route's own credential", hint=HINT)

    def lets_through(self, target: str) -> bool:
        """Tell whether `check` does."""
        try:
            self.check(target)
        except Forbidden:
            return False
        return True


def _server(url: str) -> tuple[str, int]:
    """Return what is equal for the same server: every name of this machine is the same."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    return "localhost" if is_loopback(host) else host, port_of(parts)


def _plain(path: str) -> str:
    """Return `path` as those servers read it that mind neither case nor a slash at the end."""
    return path.rstrip("/").casefold()


def _parameters(query: str) -> Parameters:
    found = parse_qsl(query, keep_blank_values=True, errors="replace")
    return [(name, value.casefold()) for name, value in found]


def _differs(own: Parameters, query: str) -> bool:
    """Tell whether `query` asks for something else at a place where the query says what is wanted."""
    sent = _parameters(query) if own else []
    named = {name for name, _ in sent} - OAUTH
    return any(name in named and (name, value) not in sent for name, value in own if value not in HOW)
