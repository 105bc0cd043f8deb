"""The reports at the end of a run, registered here because xdist's main process reads no other conftest."""

from __future__ import annotations

import pytest

from .hardening.summary import HardeningSummary
from .parity.summary import ParitySummary


def pytest_configure(config: pytest.Config) -> None:
    for summary in (ParitySummary(), HardeningSummary()):
        config.pluginmanager.register(summary)
