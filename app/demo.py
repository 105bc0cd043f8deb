"""How the demo is run with the embedded weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "unianimate": {"guidance": 1.5},
    "xdyna": {"guidance": 1.5},
}
"""What suits networks of a hundredth of the published size."""

NOTE = (
    "The embedded weights are small stand-ins; they show that everything works, not what the systems can do. "
    "README.md names the published files."
)
