"""The parity report: which folder, which files, how many cases; a named folder without goldens fails."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from pathlib import Path

import pytest

HERE = Path(__file__).parent

PROPERTY = "parity"
"""Of a test's report: golden file -> comparisons, whichever process the test ran in."""


class ParitySummary:
    """Gathers what all tests compared, from this process or from xdist's workers, and prints it."""

    def __init__(self) -> None:
        self.ran: set[Path] = set()
        self.compared: defaultdict[str, Counter[str]] = defaultdict(Counter)
        """File -> test case -> comparisons."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "teardown":
            return
        self.ran.add(HERE.parents[1] / report.location[0])
        for name, comparisons in report.user_properties:
            if name == PROPERTY:
                for file, times in comparisons.items():
                    self.compared[file][report.nodeid] += times

    def nothing_compared(self) -> bool:
        """Whether all parity tests ran on a named folder and found nothing there that they know."""
        named = bool(os.environ.get("GOLDEN_DIR"))
        return named and not self.compared and self.ran.issuperset(HERE.glob("test_*.py"))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.nothing_compared():
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        from . import golden

        if self.nothing_compared():
            terminalreporter.section("parity")
            terminalreporter.line(f"GOLDEN_DIR names {golden.folder()}, in which no test knows any file.")
        if not self.compared:
            return
        terminalreporter.section("parity")
        terminalreporter.line(f"folder: {golden.folder()}")
        for name, tests in sorted(self.compared.items()):
            terminalreporter.line(f"  {name}: {len(tests)} cases, {tests.total()} comparisons")
        for path in sorted(golden.folder().glob("*/*.json")):
            if missing := golden.missing_weights(path.parent.name, path.stem):
                terminalreporter.line(
                    f"  {path.parent.name}/{path.stem}: left out, its weights {missing} are not here"
                )
        cases = sum(map(len, self.compared.values()))
        comparisons = sum(tests.total() for tests in self.compared.values())
        terminalreporter.line(f"parity: {len(self.compared)} files, {cases} cases, {comparisons} comparisons")
