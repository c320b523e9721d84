"""A hook of mkdocs: links that leave docs/ lead to the repository, or are plain text while it has no URL."""

import re
from typing import Any

OUTSIDE = re.compile(r"\[([^\]]*)\]\(\.\./([^)\s]*)\)")


def on_page_markdown(markdown: str, *, config: Any, **_rest: Any) -> str:
    """Return the page with its links to files of the repository changed."""
    return outside_links(markdown, config.repo_url)


def outside_links(markdown: str, repository: str | None) -> str:
    """Return `markdown` with `[text](../path)` leading to `repository`; without one only the text is left."""
    return OUTSIDE.sub(rf"[\1]({repository.rstrip('/')}/blob/main/\2)" if repository else r"\1", markdown)
