"""The few pages that a person sees during a login. They load nothing and run nothing."""

from html import escape

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>authproxy: {title}</title>
<style>
  body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 36rem; margin: 12vh auto; padding: 0 1rem;
         color: #1c2430; background: #f6f7f9 }}
  main {{ background: #fff; border: 1px solid #d9dee6; border-radius: .5rem; padding: 1.5rem 2rem }}
  h1 {{ font-size: 1.25rem; margin: 0 0 .5rem }}
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
SECURITY_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def page(title: str, *paragraphs: str) -> str:
    """Return a page of plain text paragraphs."""
    return PAGE.format(title=escape(title), body="".join(f"<p>{escape(text)}</p>" for text in paragraphs))


def code_page(route: str, code: str, url: str, complete_url: str | None) -> str:
    """Return the page that shows a device code, and where to enter it."""
    link = escape(complete_url or url, quote=True)
    body = (
        f'<p>Open <a href="{link}" rel="noreferrer" target="_blank">{escape(url)}</a> and enter</p>'
        f"<p><code>{escape(code)}</code></p><p>This proxy notices by itself when you have.</p>"
    )
    return PAGE.format(title=escape(f"Log in to {route}"), body=body)
