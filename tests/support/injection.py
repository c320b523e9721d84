"""Where a token goes, for tests that are about something else."""

from authproxy.proxy.injection import Injection
from authproxy.tokens.token import Token


def header_injection(name: str, scheme: str = "") -> Injection:
    """Return the injection into one header, behind `scheme`."""

    def fill(token: Token) -> str:
        return f"{scheme} {token.value}" if scheme else token.value

    return Injection({name: fill}, {}, {}, scheme if name.lower() == "authorization" else None)
