"""The pages of a login: what is shown is text, and nothing is loaded or run."""

from html.parser import HTMLParser

import pytest

from authproxy.admin.pages import (
    FORM_HEADERS,
    SECURITY_HEADERS,
    code_page,
    key_page,
    onward_page,
    page,
    paste_page,
)

EVIL = "<script>alert(1)</script>\"'&"
EVIL_URL = 'https://id.example/?a="><script>&b=1'


class Seen(HTMLParser):
    """A page as a browser takes it: its elements with their attributes, and its text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


PAGES = [
    page(EVIL, EVIL),
    key_page(EVIL),
    key_page(EVIL, wrong=True),
    onward_page(EVIL, EVIL_URL),
    paste_page(EVIL, EVIL_URL),
    code_page(EVIL, EVIL, EVIL_URL, None),
    code_page(EVIL, EVIL, EVIL_URL, EVIL_URL),
]


@pytest.mark.parametrize("text", PAGES, ids=range(len(PAGES)))
def test_what_others_say_is_shown_and_never_run(text):
    seen = Seen(text)
    assert EVIL in seen.text
    assert not seen.all("script")
    assert not [name for _, attributes in seen.elements for name in attributes if name.startswith("on")]


@pytest.mark.parametrize("text", PAGES, ids=range(len(PAGES)))
def test_a_page_loads_nothing(text):
    seen = Seen(text)
    assert not [tag for tag, attributes in seen.elements if "src" in attributes or tag == "link"]
    assert "url(" not in text
    assert "@import" not in text


def test_the_key_is_sent_in_a_body_and_to_nowhere_else():
    (form,) = Seen(key_page("up42")).all("form")
    assert (form["method"], form.get("action")) == ("post", None)
    (field,) = Seen(key_page("up42")).all("input")
    assert (field["name"], field["type"]) == ("key", "password")
    assert "form-action 'self'" in FORM_HEADERS["Content-Security-Policy"]
    assert FORM_HEADERS["Referrer-Policy"] == "same-origin"


def test_a_wrong_key_is_told():
    assert "That key is not valid" not in key_page("up42")
    assert "That key is not valid" in Seen(key_page("up42", wrong=True)).text


def test_the_way_to_the_login_is_gone_by_itself_or_by_a_click_without_a_referrer():
    seen = Seen(onward_page("up42", EVIL_URL))
    assert {"http-equiv": "refresh", "content": f"0; url={EVIL_URL}"} in seen.all("meta")
    assert seen.all("a") == [{"href": EVIL_URL, "rel": "noreferrer"}]


def test_a_code_is_shown_with_the_place_to_enter_it_and_the_link_that_has_it_in_it():
    seen = Seen(code_page("up42", "WDJB-MJHT", "https://id.example/device", "https://id.example/device?c=1"))
    assert "WDJB-MJHT" in seen.text
    assert "https://id.example/device and enter" in seen.text
    assert [each["href"] for each in seen.all("a")] == ["https://id.example/device?c=1"]
    plain = Seen(code_page("up42", "WDJB-MJHT", "https://id.example/device", None))
    assert [each["href"] for each in plain.all("a")] == ["https://id.example/device"]


@pytest.mark.parametrize("headers", [SECURITY_HEADERS, FORM_HEADERS])
def test_no_page_is_stored_framed_or_sniffed(headers):
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "frame-ancestors 'none'" in policy
    assert "script-src" not in policy
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_a_page_without_a_form_may_send_none_and_no_referrer():
    assert "form-action 'none'" in SECURITY_HEADERS["Content-Security-Policy"]
    assert SECURITY_HEADERS["Referrer-Policy"] == "no-referrer"
