"""The reports at the end of a run, registered here because xdist's main process reads no other conftest."""

from __future__ import annotations

import os

import pytest

from .hardening.summary import HardeningSummary
from .parity.summary import ParitySummary


def pytest_configure(config: pytest.Config) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        # Before torch is imported: workers share the cores, and threads of all of them on each would wait for others.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    for summary in (ParitySummary(), HardeningSummary()):
        config.pluginmanager.register(summary)
