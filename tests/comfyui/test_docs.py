"""Help pages as the page fetches them from a real server."""

from __future__ import annotations

import re
import urllib.request
from pathlib import Path

DOCS = Path(__file__).parents[2] / "web" / "docs"


def test_every_picture_of_the_help_pages_is_served_as_one(comfyui):
    """Where the help panel looks: relative links stand below /extensions/<folder of the pack>/docs/."""
    info = comfyui.get("/object_info")
    pictures = 0
    for page in sorted(DOCS.glob("*.md")):
        folder = info[page.stem]["python_module"].split(".")[1]
        for where in re.findall(r"!\[[^\]]+\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            address = f"{comfyui.url}/extensions/{folder}/docs/{where}"
            with urllib.request.urlopen(address, timeout=30) as answer:
                assert answer.status == 200 and answer.headers["Content-Type"] == "image/jpeg", where
                assert answer.read() == (DOCS / where).read_bytes()
            pictures += 1
    assert pictures > 5
