"""Whoever follows a link of the documentation arrives; whoever copies a configuration has one that works."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from authproxy.config.read import load
from docs.tools.links import outside_links

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    {ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob(".github/*.md"), ROOT / "bench/README.md"}
)
LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|srcset)=\"([^\"]+)\"")
MADE_UP = "JBSWY3DPEHPK3PXP"  # good as a password, and as the secret of one-time passwords


def named(path):
    return path.relative_to(ROOT).as_posix()


def without_code(text):
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def links(path) -> Iterator[str]:
    for first, second in LINK.findall(without_code(path.read_text(encoding="utf-8"))):
        target = first or second
        if not re.match(r"[a-z]+:", target):
            yield target


def anchors(path):
    """Return the anchors of a page, as GitHub and the site make them of its headings."""
    headings = re.findall(r"^#+ (.*)$", without_code(path.read_text(encoding="utf-8")), re.MULTILINE)
    texts = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings)
    return {re.sub(r"[^\w\- ]", "", text.lower()).strip().replace(" ", "-") for text in texts}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_inside_leads_somewhere(page):
    lost = []
    for target in links(page):
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        if not place.exists() or (anchor and anchor not in anchors(place)):
            lost.append(target)
    assert lost == []


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/*.md")), ids=named)
def test_every_page_is_found_from_the_readme_and_in_the_site(page):
    from_home = {(ROOT / target.partition("#")[0]).resolve() for target in links(ROOT / "README.md")}
    navigation = (ROOT / ".github/mkdocs.yml").read_text(encoding="utf-8")
    assert page in from_home or page.name == "README.md"
    assert f": {page.name}\n" in navigation


@pytest.mark.parametrize(
    ("repository", "text"),
    [
        (
            "https://example.com/o/r/",
            "see [a `b`](https://example.com/o/r/blob/main/deploy/x.yaml), [c](d.md)",
        ),
        (None, "see a `b`, [c](d.md)"),
        ("", "see a `b`, [c](d.md)"),
    ],
)
def test_on_the_site_links_that_leave_the_pages_lead_to_the_repository(repository, text):
    assert outside_links("see [a `b`](../deploy/x.yaml), [c](d.md)", repository) == text


def configurations() -> Iterator[tuple[str, str]]:
    """Yield each YAML of a page that is a whole configuration."""
    for page in PAGES:
        for number, block in enumerate(
            re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
        ):
            document = yaml.safe_load(block)
            if isinstance(document, dict) and "routes" in document:
                yield f"{named(page)}-{number}", block


WHOLE = dict(configurations())


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_yaml_can_be_read(page):
    for block in re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        yaml.safe_load(block)


@pytest.mark.parametrize("block", WHOLE.values(), ids=WHOLE)
def test_every_whole_configuration_is_good(block, tmp_path):
    environ = dict.fromkeys(re.findall(r"\$\{([A-Z0-9_]+)\}", block), MADE_UP)
    for key, name in re.findall(r"(cert_file|key_file): (\w[\w.-]*)", block):
        (tmp_path / name).write_text(key)
    for name in re.findall(r"\$\{file:(/[^}]+)\}", block):
        (tmp_path / Path(name).name).write_text(MADE_UP)
        block = block.replace(name, str(tmp_path / Path(name).name))
    path = tmp_path / "authproxy.yaml"
    path.write_text(block)
    assert load(path, environ=environ).routes


def test_the_readme_and_the_quick_start_have_one(tmp_path):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"the file says:\n\n```yaml\n(.*?)```", readme, re.DOTALL)
    path = tmp_path / "authproxy.yaml"
    path.write_text(shown)
    (route,) = load(path, environ={"UP42_USERNAME": MADE_UP, "UP42_PASSWORD": MADE_UP}).routes
    assert route.upstream == "https://api.sa.up42.com"
    assert "docs/quick-start.md-0" in WHOLE
    assert "docs/recipes.md-0" in WHOLE
