"""Finding and reading golden tensors, and the limits that ours must keep.

The folder is the one that GOLDEN_DIR names, else ``../shared/golden`` seen from the repository root,
else the small set in ``tests/golden``. Tests discover the files and cases that a folder holds.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
TRAVELLING = ROOT / "tests" / "golden"

used: Counter[str] = Counter()
"""Comparisons by file that the running test has made. The terminal summary prints those of all tests."""


@cache
def folder() -> Path:
    """The golden folder in use (see the module's text)."""
    named = os.environ.get("GOLDEN_DIR")
    if named:
        return Path(named).resolve()
    shared = ROOT.parent / "shared" / "golden"
    return shared if shared.is_dir() else TRAVELLING


def files(system: str, pattern: str) -> list[str]:
    """Names (no suffix) of the golden files of a system that match, e.g. ``pipeline_*``.

    A file whose weights stand in another one that the folder lacks is left out (``missing_weights``).
    """
    stems = sorted(p.stem for p in (folder() / system).glob(f"{pattern}.json"))
    return [stem for stem in stems if not missing_weights(system, stem)]


def missing_weights(system: str, name: str) -> list[str]:
    """The files of weights that a golden file names and the folder lacks."""
    meta = Golden(system, name).meta
    named = [*meta.get("weights_files", []), *filter(None, [meta.get("weights_file")])]
    if re.match(r"\w+\.safetensors\b", text := str(meta.get("weights"))):
        named.append(text)
    stems = [text.partition(".safetensors")[0] for text in named]
    return [stem for stem in stems if not (folder() / system / f"{stem}.safetensors").is_file()]


def holding(system: str, pattern: str, *tensors: str) -> list[str]:
    """Names of the golden files that match and hold every one of these tensors."""
    return [name for name in files(system, pattern) if all(t in Golden(system, name) for t in tensors)]


def cases(system: str, pattern: str, listing=lambda golden: golden.meta["cases"]) -> list[tuple[str, str]]:
    """(file, case) pairs for ``pytest.mark.parametrize``; pytest skips the test where there are none.

    ``listing`` takes a Golden and returns its case names (any iterable of str).
    """
    return [(name, str(case)) for name in files(system, pattern) for case in listing(Golden(system, name))]


@dataclass(frozen=True)
class Golden:
    """One ``X.json`` with its ``X.safetensors``."""

    system: str
    name: str

    @cached_property
    def meta(self) -> dict:
        return json.loads((folder() / self.system / f"{self.name}.json").read_text())

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """Every tensor; float16 ones hold float32 values exactly and come back as float32."""
        stored = load_file(folder() / self.system / self.meta.get("file", f"{self.name}.safetensors"))
        return {k: v.float() if v.dtype == torch.float16 else v for k, v in stored.items()}

    def __getitem__(self, name: str) -> Tensor:
        """The tensor; a name stored only as ``<name>_u8`` comes back as u8 / 255."""
        if name not in self.tensors and f"{name}_u8" in self.tensors:
            return self.tensors[f"{name}_u8"].float() / 255
        return self.tensors[name]

    def __contains__(self, name: str) -> bool:
        return name in self.tensors or f"{name}_u8" in self.tensors

    def under(self, prefix: str) -> dict[str, Tensor]:
        """Tensors whose name starts with the prefix, without it: ``under("weights.")`` is a state dict."""
        return {k[len(prefix) :]: v for k, v in self.tensors.items() if k.startswith(prefix)}

    def rule(self, tensor: str) -> dict | str:
        """The limit for a tensor: tolerances.json first, then the file's own suggested_atol."""
        rules = _tolerances()[self.system]
        rule = next((rules[p] for p in rules if fnmatch(self.name, p)), None)
        if isinstance(rule, dict) and ("tensors" in rule or "default" in rule):
            named = rule.get("tensors", {})
            rule = next((named[p] for p in named if fnmatch(tensor, p)), rule.get("default", rule))
        if rule is None or rule == "suggested_atol of the file":
            rule = {"atol": self._own_tolerance(tensor)["suggested_atol"]}
        return rule

    def _own_tolerance(self, tensor: str) -> dict:
        """The file's entry for a tensor, or for the item or case that its name begins with, or for all."""
        own = self.meta["tolerance"]
        parts = tensor.split(".")
        names = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
        return next((own[name] for name in names if name in own), own)

    def check(
        self, tensor: str, ours: Tensor, expected: Tensor | None = None, rule: dict | str | None = None
    ) -> None:
        """Assert that ours equals the golden tensor within its limit; count the comparison.

        ``expected`` replaces the stored tensor where the golden must be reshaped first;
        ``rule`` ('exact', {'atol': x} or {'rel': x}) replaces the folder's limit by a tighter one.
        """
        expected = self[tensor] if expected is None else expected
        compare(
            f"{self.system}/{self.name}: {tensor}",
            ours,
            expected,
            self.rule(tensor) if rule is None else rule,
        )
        count(self)


@cache
def _tolerances() -> dict:
    own = folder() / "tolerances.json"
    return json.loads((own if own.is_file() else TRAVELLING / "tolerances.json").read_text())


def count(golden: Golden) -> None:
    """Count a comparison of the running test (those that ``Golden.check`` makes are counted)."""
    used[f"{golden.system}/{golden.name}"] += 1


def compare(what: str, ours, expected, rule: dict | str) -> None:
    """Assert |ours - expected| within the rule, with a message that says by how much it was missed."""
    ours, expected = (
        torch.as_tensor(np.asarray(x)) if not isinstance(x, Tensor) else x for x in (ours, expected)
    )
    assert ours.shape == expected.shape, f"{what}: shape {tuple(ours.shape)}, golden {tuple(expected.shape)}"
    a, b = ours.detach().double(), expected.double()
    assert torch.equal(a.isnan(), b.isnan()), f"{what}: NaN in other places than in the golden"
    error = (a - b).nan_to_num(0.0).abs().max().item() if a.numel() else 0.0
    if rule == "exact":
        limit = 0.0
    elif "atol" in rule:
        limit = rule["atol"]
    elif "rel" in rule:
        limit = rule["rel"] * b.nan_to_num(0.0).abs().max().item()
    else:
        raise AssertionError(f"{what}: no limit can be read from {rule!r}")
    assert error <= limit, f"{what}: off by {error:.3g}, limit {limit:.3g}"
