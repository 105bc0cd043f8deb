"""The nodes' help pages: what they link to is there, their pictures are small and show something."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from xdyna_unianimate.app import models, pictures

DOCS = Path(__file__).parents[2] / "web" / "docs"
PAGES = sorted(DOCS.glob("*.md"))
LINK = re.compile(r"(!?)\[([^\]]+)\]\(([^)\s]+)\)")
LIMIT, LIMIT_OF_ALL = 60_000, 1_500_000

ILLUSTRATED = {
    "DemoInputs", "ExtractPose", "AlignPose", "DrawPose", "FaceMaps", "UniAnimateSampler", "XDynaSampler",
    "GridCompare", "EvaluateResult",
}  # fmt: skip
"""Nodes whose work can be seen."""


def links(page: Path) -> list[tuple[bool, str, str]]:
    """(whether it is a picture, text, where to) of every link."""
    return [(bool(mark), text, where) for mark, text, where in LINK.findall(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    """Relative ones, which the help panel takes below /extensions/<pack>/docs/, stay below it, as the pack ships."""
    known = {file.page for file in models.FILES}
    for picture, _, where in links(page):
        if where.startswith("https://"):
            assert not picture and where in known, f"{where}: a page that the table of files does not know"
            continue
        target = (DOCS / where).resolve()
        assert target.is_file() and target.is_relative_to(DOCS.resolve()) and "\\" not in where, where


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_is_plain_markdown_in_lists(page):
    """What the help panel draws: no HTML, and no tables, for which it is too narrow."""
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"</?[a-z]+[ >]", text) and text.endswith("\n") and "\n\n\n" not in text
    assert "\n|" not in text and "\n## Outputs\n\n- `" in text
    assert text.count("`") % 2 == 0


def test_what_can_be_seen_is_shown():
    shown = {page.stem.removeprefix("XDUA_") for page in PAGES if any(picture for picture, *_ in links(page))}
    assert shown == ILLUSTRATED


def test_pictures_are_small_and_all_of_them_are_used():
    there = {path.name: path for path in pictures.PAGES.iterdir()}
    used = {Path(where).name for page in PAGES for picture, _, where in links(page) if picture}
    assert set(there) == used
    sizes = {name: path.stat().st_size for name, path in there.items()}
    assert max(sizes.values()) < LIMIT and sum(sizes.values()) < LIMIT_OF_ALL, sizes
    for name, path in there.items():
        with Image.open(path) as picture:
            assert picture.format == "JPEG" and 250 < picture.width <= 1300 and picture.height <= 900, name
            assert np.asarray(picture.convert("L")).std() > 15, f"{name} shows nothing"


def test_every_picture_says_what_it_shows():
    texts = [text for page in PAGES for picture, text, _ in links(page) if picture]
    assert all(len(text) > 15 and text[0].isupper() for text in texts)
