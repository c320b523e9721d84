"""The few pages that a person sees during a login. They load nothing and run nothing.

The one that asks for the access key has it sent in a form's body: in a query it would stand in histories and
logs, and a cookie would go to every port of the host.
"""

from html import escape

CALLBACK = "/callback"  # the path that a browser comes back to
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>authproxy: {title}</title>{head}
<style>
  body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 36rem; margin: 12vh auto; padding: 0 1rem;
         color: #1c2430; background: #f6f7f9 }}
  main {{ background: #fff; border: 1px solid #d9dee6; border-radius: .5rem; padding: 1.5rem 2rem }}
  h1 {{ font-size: 1.25rem; margin: 0 0 .5rem }}
  input, button {{ font: inherit; padding: .25rem .5rem }}
  code {{ font: 600 1.5rem/2 ui-monospace, monospace; letter-spacing: .1em }}
  @media (prefers-color-scheme: dark) {{
    body {{ color: #e6e9ee; background: #14181f }}
    main {{ background: #1c222b; border-color: #333c49 }}
    a {{ color: #8ab4f8 }}
  }}
</style>
<main><h1>{title}</h1>{body}</main>
</html>
"""
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action {}; frame-ancestors 'none'"
)
SECURITY_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": POLICY.format("'none'"),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
FORM_HEADERS = SECURITY_HEADERS | {
    "Content-Security-Policy": POLICY.format("'self'"),
    "Referrer-Policy": "same-origin",  # with none at all a browser says `Origin: null`
}


def page(title: str, *paragraphs: str) -> str:
    """Return a page of plain text paragraphs."""
    return _page(title, "".join(f"<p>{escape(text)}</p>" for text in paragraphs))


def key_page(route: str, *, wrong: bool = False) -> str:
    """Return the page that asks for the access key; to be sent with `FORM_HEADERS`."""
    said = "<p role=alert>That key is not valid.</p>" if wrong else ""
    body = (
        f"{said}<p>This proxy requires a key: one of <b>access.tokens</b> in its configuration.</p>"
        '<form method="post"><p><label for="key">Access key</label></p>'
        '<p><input id="key" name="key" type="password" autocomplete="current-password" required autofocus>'
        ' <button type="submit">Log in</button></p></form>'
    )
    return _page(f"Log in to {route}", body)


def onward_page(route: str, url: str) -> str:
    """Return the page that goes on to `url` by itself.

    A redirect would do, but browsers count it as part of the form before it, which may lead nowhere else.
    """
    link = escape(url, quote=True)
    return _page(
        f"Log in to {route}",
        f'<p><a href="{link}" rel="noreferrer">Continue to the login</a></p>',
        head=f'\n<meta http-equiv="refresh" content="0; url={link}">',
    )


def paste_page(route: str, url: str) -> str:
    """Return the page for a login whose browser does not come back here: its URL can be brought by hand.

    To be sent with `FORM_HEADERS`.
    """
    link = escape(url, quote=True)
    body = (
        f'<p><a href="{link}" rel="noreferrer" target="_blank">Continue to the login</a>, in a new tab.</p>'
        "<p>It redirects the browser to the client's own address, where perhaps nothing answers: "
        "copy the whole URL from the address bar, with code= and state= in it.</p>"
        f'<form action="{CALLBACK}"><p><label for="url">The URL that it was redirected to</label></p>'
        '<p><input id="url" name="url" type="url" autocomplete="off" required>'
        ' <button type="submit">Complete the login</button></p></form>'
    )
    return _page(f"Log in to {route}", body)


def code_page(route: str, code: str, url: str, complete_url: str | None) -> str:
    """Return the page that shows a device code, and where to enter it."""
    link = escape(complete_url or url, quote=True)
    body = (
        f'<p>Open <a href="{link}" rel="noreferrer" target="_blank">{escape(url)}</a> and enter</p>'
        f"<p><code>{escape(code)}</code></p><p>The proxy notices by itself when you are done.</p>"
    )
    return _page(f"Log in to {route}", body)


def _page(title: str, body: str, *, head: str = "") -> str:
    return PAGE.format(title=escape(title), head=head, body=body)
