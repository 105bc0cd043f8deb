"""The parity report: which folder, which files, how many comparisons; a named but empty folder fails."""

from __future__ import annotations

import os

import pytest

from . import golden


def pytest_configure(config: pytest.Config) -> None:
    found = [p for system in ("unianimate", "xdyna") for p in (golden.folder() / system).glob("*.json")]
    if os.environ.get("GOLDEN_DIR") and not found:
        raise pytest.UsageError(f"GOLDEN_DIR names {golden.folder()}, which holds no golden files.")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not golden.used:
        return
    terminalreporter.section("parity")
    terminalreporter.line(f"folder: {golden.folder()}")
    for name, number in sorted(golden.used.items()):
        terminalreporter.line(f"  {name}: {number} comparisons")
    terminalreporter.line(f"parity: {len(golden.used)} files, {sum(golden.used.values())} comparisons")
