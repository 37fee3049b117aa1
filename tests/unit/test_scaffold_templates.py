"""The pages that scaffold makes: whole, with nothing from elsewhere, and readable by everybody."""

import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

TEMPLATES = Path(__file__).parents[2] / "oanix/agents/scaffold/templates"
PAGES = ("landing", "dashboard")
VOID = {"meta", "link", "img", "input", "br", "hr", "path"}


class Page(HTMLParser):
    """What a page holds."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def all(self, *tags: str) -> list[dict[str, str | None]]:
        return [attrs for tag, attrs in self.found if tag in tags]


@pytest.fixture(params=PAGES)
def template(request: pytest.FixtureRequest) -> Path:
    return TEMPLATES / str(request.param)


def test_what_a_template_names_is_what_it_has() -> None:
    said = {one["name"]: set(one["files"]) for one in
            json.loads((TEMPLATES / "templates.json").read_text())}  # fmt: skip
    there = {
        folder.name: {path.name for path in folder.iterdir()}
        for folder in TEMPLATES.iterdir()
        if folder.is_dir()
    }
    assert said == there


def test_a_page_is_whole_and_has_what_readers_need(template: Path) -> None:
    page = Page((template / "index.html").read_text())
    assert page.open == []
    assert page.all("html") == [{"lang": "en"}]
    assert [len(page.all(tag)) for tag in ("h1", "title", "main", "header")] == [1, 1, 1, 1]
    metas = {attrs.get("name") for attrs in page.all("meta")}
    assert {"viewport", "description"} <= metas
    assert all("alt" in attrs for attrs in page.all("img"))
    ids = [attrs["id"] for _, attrs in page.found if attrs.get("id")]
    assert len(ids) == len(set(ids))
    named = [attrs["aria-labelledby"] for _, attrs in page.found if attrs.get("aria-labelledby")]
    assert set(named) <= set(ids)
    levels = [int(tag[1]) for tag, _ in page.found if re.fullmatch("h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_a_page_leads_to_what_is_there_and_loads_nothing_from_elsewhere(template: Path) -> None:
    page = Page((template / "index.html").read_text())
    ids = {attrs.get("id") for _, attrs in page.found}
    for tag, attrs in page.found:
        for target in filter(None, (attrs.get("href"), attrs.get("src"))):
            if target.startswith("#"):
                assert target[1:] in ids, target
            elif not target.startswith(("mailto:", "data:image/svg+xml,")):
                assert (template / target).is_file(), (tag, target)
    for path in template.iterdir():
        addresses = re.findall(r"https?://[\w.:]+", path.read_text())
        assert set(addresses) <= {
            "http://www.w3.org",
            "http://127.0.0.1:8000",
            "http://127.0.0.1:8000:",
        }
    for path in template.glob("*.css"):
        assert not re.search(r"@import|url\(", path.read_text())


def test_the_scripts_of_the_dashboard_find_what_they_ask_for() -> None:
    page = Page((TEMPLATES / "dashboard/index.html").read_text())
    ids = {attrs.get("id") for _, attrs in page.found}
    asked = set(re.findall(r"\$\('([\w-]+)'\)", (TEMPLATES / "dashboard/app.js").read_text()))
    assert asked
    assert asked <= ids
    data = json.loads((TEMPLATES / "dashboard/data.json").read_text())
    keys = {"date", *(one["key"] for one in data["series"])}
    assert len(data["days"]) > 60
    assert all(set(day) == keys for day in data["days"])


def colours(text: str) -> dict[str, str]:
    return dict(re.findall(r"--([\w-]+):\s*(#[0-9a-f]{6})", text))


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """WCAG 2.2, contrast ratio."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(
    ("name", "dark", "pairs"),
    [
        ("landing", "@media (prefers-color-scheme: dark)",
         [("ink", "paper"), ("muted", "paper"), ("muted", "tint"), ("accent", "paper"),
          ("accent", "tint"), ("on-accent", "accent"), ("on-accent", "accent-strong")]),
        ("dashboard", ':root[data-theme="dark"]',
         [("ink", "paper"), ("ink", "panel"), ("muted", "paper"), ("muted", "panel")]),
    ],
)  # fmt: skip
def test_text_stands_out_from_what_is_behind_it(
    name: str, dark: str, pairs: list[tuple[str, str]]
) -> None:
    light_text, _, dark_text = (TEMPLATES / name / "styles.css").read_text().partition(dark)
    light = colours(light_text)
    for theme in (light, {**light, **colours(dark_text)}):
        for one, other in pairs:
            assert contrast(theme[one], theme[other]) >= 4.5, (one, other)
