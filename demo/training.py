"""One training loop for every network of the demo: resumable, bounded in time, with an averaged copy.

A cut run goes on from its last state: weights, averages, optimiser, counters and the seed reached.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

STATE_EVERY_SECONDS = 60

LOSSES_TOGETHER = 20
"""Iterations whose mean loss is a point of the curve."""


@dataclass(frozen=True)
class Data:
    """What a network is shown. folder: of own videos. content: what tells them from others; both empty for puppets."""

    name: str = "drawn puppets"
    folder: str = ""
    content: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.content})" if self.content else self.name


@dataclass(frozen=True)
class Plan:
    """How long, how fast and on what: the same plan gives the same weights.

    ``iterations`` fixes the cosine; fewer than 1 raise ValueError. figure_weight: X-Dyna's, None for other networks.
    """

    iterations: int
    learning_rate: float = 1e-3
    warmup: int = 100
    average: float = 0.999
    seed: int = 0
    batch: int = 8
    bf16: bool = True
    data: Data = Data()
    figure_weight: float | None = None

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise ValueError(f"A training takes at least 1 iteration; {self.iterations} were asked for.")


@dataclass
class Progress:
    """What a run has behind it; ``losses`` is the mean of every 20 iterations, ``window`` those that follow."""

    iteration: int = 0
    losses: list[float] = field(default_factory=list)
    window: list[float] = field(default_factory=list)


def _rate(plan: Plan, iteration: int) -> float:
    warm = min(1.0, (iteration + 1) / plan.warmup)
    return (
        plan.learning_rate
        * warm
        * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * iteration / plan.iterations)))
    )


def train(
    model: nn.Module,
    loss_of: Callable[[nn.Module, object, torch.Generator], Tensor],
    batches_from: Callable[[int], Iterator[object]],
    plan: Plan,
    folder: Path,
    report: Callable[[int, int, float], None] = lambda done, total, loss: None,
) -> nn.Module:
    """Train until the plan is done; returns the averaged model.

    ``loss_of(model, batch, generator)`` draws every random number from the CPU generator, which is seeded by
    plan and iteration; ``batches_from(first_seed)`` yields batches from that data seed on. The model trains
    where it lies. ``curve.png`` in the folder shows the loss from the first iteration on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    trained = [p for p in model.parameters() if p.requires_grad]
    device = trained[0].device
    optimiser = torch.optim.AdamW(trained, lr=plan.learning_rate, betas=(0.9, 0.99), weight_decay=1e-3)
    averaged = deepcopy(model).requires_grad_(False)
    progress = _resume(folder, plan, model, averaged, optimiser)
    data = batches_from(plan.seed * 10_000_019 % 500_000 + progress.iteration * plan.batch)
    saved = time.monotonic()
    while progress.iteration < plan.iterations:
        generator = torch.Generator().manual_seed(plan.seed * 1_000_003 + progress.iteration)
        for group in optimiser.param_groups:
            group["lr"] = _rate(plan, progress.iteration)
        with torch.autocast(device.type, torch.bfloat16, enabled=plan.bf16):
            loss = loss_of(model, _to(next(data), device), generator)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        clip_grad_norm_(trained, 1.0)
        optimiser.step()
        progress.iteration += 1
        _average(averaged, model, min(plan.average, (1 + progress.iteration) / (10 + progress.iteration)))
        progress.window.append(loss.item())
        if len(progress.window) == LOSSES_TOGETHER:
            progress.losses.append(sum(progress.window) / LOSSES_TOGETHER)
            progress.window.clear()
            report(progress.iteration, plan.iterations, progress.losses[-1])
        if time.monotonic() - saved > STATE_EVERY_SECONDS or progress.iteration == plan.iterations:
            _save(folder, plan, progress, model, averaged, optimiser)
            saved = time.monotonic()
    if progress.losses:
        curve(progress.losses, folder.name, folder / "curve.png")
    return averaged


def _to(batch: object, device: torch.device) -> object:
    """A tensor, or a dict of tensors, where the network is."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}


@torch.no_grad()
def _average(averaged: nn.Module, model: nn.Module, keep: float) -> None:
    for slow, fast in zip(averaged.parameters(), model.parameters(), strict=True):
        slow.lerp_(fast, 1 - keep)


def _save(folder: Path, plan: Plan, progress: Progress, model, averaged, optimiser) -> None:
    aside = folder / "state.part"
    torch.save(
        {
            "plan": asdict(plan), "progress": asdict(progress), "model": model.state_dict(),
            "averaged": averaged.state_dict(), "optimiser": optimiser.state_dict(),
        },
        aside,
    )  # fmt: skip
    aside.replace(folder / "state.pt")


def _resume(folder: Path, plan: Plan, model, averaged, optimiser) -> Progress:
    file = folder / "state.pt"
    if not file.is_file():
        return Progress()
    state = torch.load(file, map_location="cpu", weights_only=True)
    _check_same(file, state["plan"], asdict(plan))
    model.load_state_dict(state["model"])
    averaged.load_state_dict(state["averaged"])
    optimiser.load_state_dict(state["optimiser"])
    return Progress(**state["progress"])


def _check_same(file: Path, stored: Mapping[str, object], wanted: Mapping[str, object]) -> None:
    """Raises ValueError where a state is not of this plan, or is too old to say so."""
    unsaid = [name for name in wanted if name not in stored]
    if unsaid:
        raise ValueError(
            f"{file} was written by an older version, which did not keep {' and '.join(unsaid)}: whether it belongs to "
            "this run cannot be told. Use another folder to start anew."
        )
    other = [name for name in wanted if stored[name] != wanted[name]]
    if other:
        theirs, ours = (", ".join(f"{n} {plan[n]}" for n in other) for plan in (stored, wanted))
        raise ValueError(
            f"{file} belongs to another plan ({theirs}); this one has {ours}. "
            "Use the same options and data to go on, or another folder to start anew."
        )


def curve(losses: list[float], title: str, file: Path) -> None:
    """Save the loss curve as a picture: log scale, smoothed line over the raw one."""
    import cv2
    import numpy as np

    picture = np.full((320, 560, 3), 255, np.uint8)
    values = np.log10(np.maximum(np.asarray(losses, float), 1e-8))
    low, high = float(values.min()), float(values.max()) + 1e-6
    x = np.linspace(50, 545, len(values))
    y = lambda v: 285 - (v - low) / (high - low) * 240  # noqa: E731
    smooth = np.convolve(np.pad(values, 5, mode="edge"), np.ones(11) / 11, "valid")
    for line, colour in ((values, (220, 200, 180)), (smooth, (160, 60, 20))):
        cv2.polylines(picture, [np.stack([x, y(line)], -1).astype(np.int32)], False, colour, 1, cv2.LINE_AA)
    for value in (low, (low + high) / 2, high):
        cv2.putText(
            picture,
            f"{10**value:.3f}",
            (4, int(y(value)) + 4),
            cv2.FONT_HERSHEY_SIMPLEX,
            0.38,
            (60, 60, 60),
            1,
        )
    cv2.putText(
        picture,
        f"{title}: loss over {len(losses) * LOSSES_TOGETHER} iterations",
        (50, 20),
        cv2.FONT_HERSHEY_SIMPLEX,
        0.45,
        (0, 0, 0),
        1,
    )
    file.write_bytes(cv2.imencode(file.suffix, picture)[1].tobytes())
