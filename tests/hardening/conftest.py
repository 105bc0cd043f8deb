"""The hardening harness: how much is tried, and the counts of what came of it.

``pytest tests/hardening`` (or a file in it) tries everything and prints the full counts. As part of the whole
suite a short version runs, in under a minute. ``XDUA_HARDENING=short`` or ``full`` decides instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .summary import PROPERTY, is_full
from .tally import Tally

HERE = Path(__file__).parent

Amount = Callable[[int, int], int]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "full: runs where `pytest tests/hardening` was asked for, not in the suite"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if is_full(config):
        return
    left_out = [item for item in items if HERE in item.path.parents and item.get_closest_marker("full")]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


@pytest.fixture
def full(pytestconfig: pytest.Config) -> bool:
    """Whether the full counts are tried."""
    return is_full(pytestconfig)


@pytest.fixture
def amount(full: bool) -> Amount:
    """``amount(short, full)``: how many cases to try in this run."""
    return lambda short, many: many if full else short


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Iterator[Tally]:
    """The counts of this test, under its module's FAMILY; whatever is lost fails it at its end."""
    counted = Tally(request.module.FAMILY)
    yield counted
    # With pytest-xdist, properties are what reaches the process that prints.
    request.node.user_properties.append((PROPERTY, (counted.family, dict(counted.counts))))
    counted.check()
