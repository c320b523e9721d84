"""What is wrong with what should be a URL, an address, a duration or a size, and is none.

Each function returns the whole sentence: what was expected, then what most likely went wrong. None repeats
the value: it may be a secret in the wrong place.
"""

import re
from urllib.parse import urlsplit

URL = "should be an absolute URL that begins with https:// or http://"
HOST = "should be a host alone, such as id.example.com: without https:// before it and a path behind it"
ADDRESS = "should be HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080, or unix:/PATH"
DURATION = "should be a duration: seconds, or a number with ms, s, m, h or d, such as 500ms or 5m"
SIZE = "should be a size: bytes, or a number with KiB, MiB or GiB, such as 64KiB"
ESCAPES = "within \"double quotes\" a \\ begins an escape: use 'single quotes', or write \\\\"

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_SLASHES = re.compile(r"https?:(/[^/]|[^/])", re.IGNORECASE)
_NUMBER_AND_WORD = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)\.?\Z")
_SEVERAL = re.compile(r"(\d+\s*[A-Za-z]+\s*){2,}\Z")
_UNITS = {
    "s": ("sec", "secs", "second", "seconds"),
    "m": ("min", "mins", "minute", "minutes"),
    "h": ("hr", "hrs", "hour", "hours"),
    "d": ("day", "days"),
    "ms": ("msec", "msecs", "millisecond", "milliseconds", "millis"),
}
_DURATIONS = {word: unit for unit, words in _UNITS.items() for word in words}
_SIZES = {"k": "KiB", "m": "MiB", "g": "GiB"}


def url_fault(url: str) -> str:
    """Say why `url` is no absolute http(s) URL."""
    scheme = _SCHEME.match(url)
    if url[:1] in {"<", '"', "'"}:
        return f"{URL}; remove the {'brackets' if url[0] == '<' else 'quotes'} around it"
    if scheme is None and _SLASHES.match(url):
        return f"{URL}; two slashes belong after the colon"
    if scheme is None:
        return f"{URL}; put https:// before it" if url else URL
    if scheme[1].lower() in {"ws", "wss"}:
        return f"{URL}; WebSockets take the same way: write http{'s' * (scheme[1].lower() == 'wss')}://"
    if scheme[1].lower() not in {"http", "https"}:
        from difflib import get_close_matches

        near = get_close_matches(scheme[1].lower(), ("https", "http"), 1)
        return f"{URL}; did you mean {near[0]}://?" if near else f"{URL}, and not with another scheme"
    return f"{URL}; {_after_scheme(url)}"


def _after_scheme(url: str) -> str:
    try:
        parts = urlsplit(url)
        has_host = bool(parts.hostname)
    except ValueError:
        return "put [ ] around the IPv6 address"
    return "its port should be a number from 1 to 65535" if has_host else "the host is missing after ://"


_ADDRESSES = (
    (r".*://", "remove http:// and anything after the port"),
    (r".*,", "write a list, one address in each entry"),
    (r"unix:", "the path of a Unix socket begins with /"),
    (r"\d+\Z", "put 127.0.0.1: before the port"),
    (r"[^\[]*:[^\[]*:", "put [ ] around the IPv6 address"),
    (r"(\[.*\]|[^:]*)\Z", "the port is missing"),
    (r".*:(?!\d{1,5}\Z).", "the port should be a number from 0 to 65535"),
)
"""How an address may begin that is none, and what to do about it."""


def address_fault(address: str) -> str:
    """Say why `address` is none that can be listened on."""
    found = next((said for pattern, said in _ADDRESSES if re.match(pattern, address)), None)
    return f"{ADDRESS}; {found}" if found and address else ADDRESS


def duration_fault(value: object) -> str:
    """Say why `value` is no duration."""
    text = str(value).strip().lower() if isinstance(value, str | int | float) else ""
    if text.startswith("-"):
        return f"{DURATION}; it cannot be negative"
    if _SEVERAL.match(text):
        return f"{DURATION}; write it with one unit alone, such as 90s for a minute and a half"
    match = _NUMBER_AND_WORD.match(text)
    unit = _DURATIONS.get(match[2]) if match else None
    return f"{DURATION}; the unit is written {unit}" if unit else DURATION


def size_fault(value: object) -> str:
    """Say why `value` is no size."""
    text = str(value).strip() if isinstance(value, str | int | float) else ""
    match = _NUMBER_AND_WORD.match(text)
    if text.startswith("-"):
        return f"{SIZE}; it cannot be negative"
    unit = _SIZES.get(match[2][0].lower()) if match else None
    if unit and match and match[2].lower() in {unit.lower(), unit[0].lower(), f"{unit[0].lower()}b"}:
        what = "a whole number goes before the unit" if "." in match[1] and match[2] == unit else ""
        return f"{SIZE}; {what or f'the unit is written {unit}, in steps of 1024'}"
    return SIZE
