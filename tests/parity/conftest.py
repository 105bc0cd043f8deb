"""What parity tests share: the ways in which layers work, and that comparisons are counted."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from xdyna_unianimate.video_core.savings import PLAIN_LAYERS, LayerSavings

from . import golden
from .summary import PROPERTY

WAYS = {
    "savings on": LayerSavings(),
    "savings off": PLAIN_LAYERS,
}
"""How the layers of a network may work; all must give the golden result."""


@pytest.fixture(params=WAYS.values(), ids=WAYS)
def savings(request: pytest.FixtureRequest) -> LayerSavings:
    return request.param


@pytest.fixture(autouse=True)
def counted(request: pytest.FixtureRequest) -> Iterator[None]:
    """Has a test's report carry what the test compared."""
    golden.used.clear()
    yield
    request.node.user_properties.append((PROPERTY, dict(golden.used)))


def pytest_configure(config: pytest.Config) -> None:
    found = [p for system in ("unianimate", "xdyna") for p in (golden.folder() / system).glob("*.json")]
    if os.environ.get("GOLDEN_DIR") and not found:
        raise pytest.UsageError(f"GOLDEN_DIR names {golden.folder()}, which holds no golden files.")
