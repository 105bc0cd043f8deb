"""The table of what was tried and what came of it, at the end of a run, and how much a run tries."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from .tally import table

HERE = Path(__file__).parent

PROPERTY = "hardening"
"""Of a test's report: (family, counts), whichever process the test ran in."""


def is_full(config: pytest.Config) -> bool:
    """Whether this run was asked for the full counts: ``pytest tests/hardening`` or a file in it does.

    ``XDUA_HARDENING=short`` or ``full`` decides instead.
    """
    chosen = os.environ.get("XDUA_HARDENING")
    if chosen:
        return chosen == "full"
    asked = [
        Path(config.invocation_params.dir, argument.split("::")[0]).resolve() for argument in config.args
    ]
    return all(path.is_relative_to(HERE) for path in asked)


class HardeningSummary:
    """Gathers the counts of all tests, from this process or from xdist's workers, and prints the table."""

    def __init__(self) -> None:
        self.counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.skipped: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if Path(report.fspath).parent.name != HERE.name:
            return
        if report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            name = report.nodeid.split("::")[-1]
            self.skipped.append(re.sub(r"\s+", " ", f"skipped: {name}: {reason}"))
        if report.failed and report.when != "teardown":
            # A test that broke off, or looked at its run as a whole, is a loss as well.
            family = Path(report.fspath).stem.removeprefix("test_").replace("_", " ")
            self.counts[family].update({"tried": 1, "lost": 1})
        for name, value in report.user_properties if report.when == "teardown" else ():
            if name == PROPERTY:
                family, counts = value
                self.counts[family].update(counts)

    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter, config: pytest.Config
    ) -> None:
        if not self.counts:
            return
        terminalreporter.section(f"hardening, {'full' if is_full(config) else 'short'}")
        for line in (*table(self.counts), *self.skipped):
            terminalreporter.line(line)
