"""The hardening harness: how much is tried, and the table of what came of it.

``pytest tests/hardening`` (or a file in it) tries everything and prints the full counts. As part of the whole
suite a short version runs, in under a minute. ``XDUA_HARDENING=short`` or ``full`` decides instead.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .tally import Tally, table

HERE = Path(__file__).parent
PROPERTY = "hardening"
COLLECTED = pytest.StashKey[defaultdict[str, Counter]]()
SKIPPED = pytest.StashKey[list[str]]()

Amount = Callable[[int, int], int]


def is_full(config: pytest.Config) -> bool:
    """Whether this run was asked for the full counts (see the module's text)."""
    chosen = os.environ.get("XDUA_HARDENING")
    if chosen:
        return chosen == "full"
    asked = [
        Path(config.invocation_params.dir, argument.split("::")[0]).resolve() for argument in config.args
    ]
    return all(path.is_relative_to(HERE) for path in asked)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "full: runs where `pytest tests/hardening` was asked for, not in the suite"
    )
    config.stash[COLLECTED] = defaultdict(Counter)
    config.stash[SKIPPED] = []


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


class _Collector:
    """Gathers the counts of all tests, from this process or from xdist's workers."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and Path(report.fspath).parent.name == HERE.name:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            self.config.stash[SKIPPED].append(f"{report.nodeid.split('::')[-1]}: {reason}")
        if report.failed and report.when != "teardown" and Path(report.fspath).parent.name == HERE.name:
            # A test that broke off, or looked at its run as a whole, is a loss as well.
            family = Path(report.fspath).stem.removeprefix("test_").replace("_", " ")
            self.config.stash[COLLECTED][family].update({"tried": 1, "lost": 1})
        if report.when != "teardown":
            return
        for name, value in report.user_properties:
            if name == PROPERTY:
                family, counts = value
                self.config.stash[COLLECTED][family].update(counts)


def pytest_sessionstart(session: pytest.Session) -> None:
    _register(session.config)


def pytest_collection_finish(session: pytest.Session) -> None:
    # A whole-suite run reads this file after the session has started.
    _register(session.config)


def _register(config: pytest.Config) -> None:
    if not config.pluginmanager.has_plugin("hardening-collector"):
        config.pluginmanager.register(_Collector(config), "hardening-collector")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash.get(COLLECTED, None)
    if not rows:
        return
    terminalreporter.section(f"hardening, {'full' if is_full(config) else 'short'}")
    for line in table(rows):
        terminalreporter.line(line)
    for line in config.stash[SKIPPED]:
        terminalreporter.line(re.sub(r"\s+", " ", f"skipped: {line}"))
