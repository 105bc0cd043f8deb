"""The parity report: which folder, which files, how many cases; a named folder without goldens fails."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from xdyna_unianimate.video_core.savings import PLAIN_LAYERS, LayerSavings

from . import golden

HERE = Path(__file__).parent

WAYS = {
    "savings on": LayerSavings(),
    "savings off": PLAIN_LAYERS,
}
"""How the layers of a network may work; all must give the golden result."""


@pytest.fixture(params=WAYS.values(), ids=WAYS)
def savings(request: pytest.FixtureRequest) -> LayerSavings:
    return request.param


def pytest_configure(config: pytest.Config) -> None:
    found = [p for system in ("unianimate", "xdyna") for p in (golden.folder() / system).glob("*.json")]
    if os.environ.get("GOLDEN_DIR") and not found:
        raise pytest.UsageError(f"GOLDEN_DIR names {golden.folder()}, which holds no golden files.")


def nothing_compared(session: pytest.Session) -> bool:
    """Whether all parity tests ran on a named folder and found nothing there that they know."""
    ran = {item.path for item in session.items}
    return bool(os.environ.get("GOLDEN_DIR")) and not golden.used and ran.issuperset(HERE.glob("test_*.py"))


def pytest_sessionfinish(session: pytest.Session) -> None:
    if not session.config.option.collectonly and nothing_compared(session):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if nothing_compared(terminalreporter._session):
        terminalreporter.section("parity")
        terminalreporter.line(f"GOLDEN_DIR names {golden.folder()}, in which no test knows any file.")
    if not golden.used:
        return
    terminalreporter.section("parity")
    terminalreporter.line(f"folder: {golden.folder()}")
    for name, cases in sorted(golden.used.items()):
        terminalreporter.line(f"  {name}: {len(cases)} cases, {cases.total()} comparisons")
    for path in sorted(golden.folder().glob("*/*.json")):
        if missing := golden.missing_weights(path.parent.name, path.stem):
            terminalreporter.line(
                f"  {path.parent.name}/{path.stem}: left out, its weights {missing} are not here"
            )
    cases, comparisons = (sum(count(c) for c in golden.used.values()) for count in (len, lambda c: c.total()))
    terminalreporter.line(f"parity: {len(golden.used)} files, {cases} cases, {comparisons} comparisons")
