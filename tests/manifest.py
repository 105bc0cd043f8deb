"""Parameter lists of published checkpoints, small enough to travel: counts and digests per part."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from torch import nn

ROOT = Path(__file__).resolve().parents[1]
SUMMARIES = ROOT / "tests" / "golden" / "keys"
MANIFESTS = ROOT.parent / "shared" / "keys"


def shapes(network: nn.Module) -> dict[str, list[int]]:
    """Name -> shape of everything in a network's state dict."""
    return {name: list(tensor.shape) for name, tensor in network.state_dict().items()}


def summary(names: Mapping[str, list[int]]) -> dict[str, list]:
    """Part of a network -> [how many parameters by name, digest of their names and shapes]."""
    parts: dict[str, list[str]] = defaultdict(list)
    for name, shape in sorted(names.items()):
        first, second = (name.split(".") + [""])[:2]
        part = f"{first}.{second}" if first.endswith(("blocks", "block")) else first
        parts[part].append(f"{name} {list(shape)}")
    return {
        part: [len(lines), hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]]
        for part, lines in parts.items()
    }


def travelling(name: str) -> dict[str, list]:
    """The summary of a manifest, as kept with the tests."""
    return json.loads((SUMMARIES / f"{name}.json").read_text())
