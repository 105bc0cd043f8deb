"""Solvers of higher order, for fewer steps: DPM-Solver++ (2M) and UniPC.

Both work on estimates of x0 in the half log signal-to-noise ratio lambda = log(alpha / sigma), alpha = sqrt(abar),
sigma = sqrt(1 - abar). All ratios are formed without the logarithm where it would be infinite, so that runs which
begin at no signal (zero terminal SNR) or end at no noise are finite: there the order falls to one, which is DDIM.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from .samplers import Solver, ddim, split_prediction
from .schedule import Schedule


@dataclass(frozen=True)
class Point:
    """One timestep: alpha = sqrt(abar), sigma = sqrt(1 - abar), as floats."""

    alpha: float
    sigma: float

    @property
    def lam(self) -> float:
        """lambda; minus infinity without signal, plus infinity without noise."""
        if self.alpha == 0:
            return -math.inf
        return math.inf if self.sigma == 0 else math.log(self.alpha / self.sigma)


def points(schedule: Schedule, timesteps: Sequence[int]) -> list[Point]:
    """Every timestep, and the end of the run."""
    shares = [schedule.alpha(t).item() for t in [*timesteps, None]]
    return [Point(math.sqrt(a), math.sqrt(max(0.0, 1 - a))) for a in shares]


def first_order(x: Tensor, x0: Tensor, now: Point, then: Point) -> Tensor:
    """DDIM's step in terms of x0: sigma_then / sigma_now x + (alpha_then - alpha_now sigma_then / sigma_now) x0."""
    ratio = then.sigma / now.sigma
    return ratio * x + (then.alpha - now.alpha * ratio) * x0


def _weight(now: Point, then: Point) -> float:
    """-alpha_then (exp(-h) - 1), with h = lambda_then - lambda_now: how much of x0 a step takes in."""
    return then.alpha - now.alpha * then.sigma / now.sigma


def _ratio(before: Point, now: Point, then: Point) -> float:
    """r = (lambda_before - lambda_now) / (lambda_then - lambda_now), negative; infinite ends give +-inf or 0."""
    h = then.lam - now.lam
    return 0.0 if math.isinf(h) and not math.isinf(before.lam) else (before.lam - now.lam) / h


@dataclass
class Dpmpp2M:
    """DPM-Solver++ (2M) (Lu et al. 2022b, algorithm 2): x0 is extrapolated from two estimates.

    The last step is of first order, as is usual where few steps run.
    """

    schedule: Schedule
    timesteps: Sequence[int]
    memory: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._points = points(self.schedule, self.timesteps)

    def __call__(self, x: Tensor, prediction: Tensor, index: int) -> tuple[Tensor, Tensor]:
        now, then = self._points[index], self._points[index + 1]
        x0, _ = split_prediction(self.schedule, x, prediction, self.timesteps[index])
        slope = self._slope(x0, index)
        self.memory["x0"] = x0
        return first_order(x, x0 + slope, now, then), x0

    def _slope(self, x0: Tensor, index: int) -> Tensor | float:
        """What the estimate changes until the middle of the step, by the step before."""
        if "x0" not in self.memory or index + 1 == len(self.timesteps):
            return 0.0
        before, now, then = self._points[index - 1 : index + 2]
        r = -_ratio(before, now, then)
        return 0.0 if math.isinf(r) or r == 0 else (x0 - self.memory["x0"]) / (2 * r)


@dataclass
class UniPC:
    """UniPC of order 2, B2(h) = exp(h) - 1 (Zhao et al. 2023, algorithms 5 and 6), multistep, predicting x0.

    Every prediction first corrects the point that it was made at, then leads to the next; a corrected point costs
    no call of the network. The last step is of first order.
    """

    schedule: Schedule
    timesteps: Sequence[int]
    memory: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._points = points(self.schedule, self.timesteps)

    def __call__(self, x: Tensor, prediction: Tensor, index: int) -> tuple[Tensor, Tensor]:
        x0, _ = split_prediction(self.schedule, x, prediction, self.timesteps[index])
        corrected = self._corrected(x, x0, index)
        older = self.memory.get("x0")
        following = self._predicted(corrected, x0, older, index)
        self.memory = {"x": corrected, "x0": x0} | ({} if older is None else {"older": older})
        return following, x0

    def _predicted(self, x: Tensor, x0: Tensor, older: Tensor | None, index: int) -> Tensor:
        now, then = self._points[index], self._points[index + 1]
        following = first_order(x, x0, now, then)
        if older is None or index + 1 == len(self.timesteps):
            return following
        r = _ratio(self._points[index - 1], now, then)
        if r == 0 or math.isinf(r):
            return following
        return following + _weight(now, then) * 0.5 * (older - x0) / r

    def _corrected(self, x: Tensor, x0: Tensor, index: int) -> Tensor:
        """The point x, that the step before led to, by the estimate made there."""
        if "x" not in self.memory:
            return x
        start, m0, older = self.memory["x"], self.memory["x0"], self.memory.get("older")
        now, then = self._points[index - 1], self._points[index]
        h = then.lam - now.lam
        base, weight, newer = first_order(start, m0, now, then), _weight(now, then), x0 - m0
        if math.isinf(h):
            return x
        r = None if older is None or index < 2 else _ratio(self._points[index - 2], now, then)
        if r is None or r == 0 or math.isinf(r):
            return base + weight * 0.5 * newer
        first, second = _corrector_weights(-h, r)
        return base + weight * (first * (older - m0) / r + second * newer)


def _corrector_weights(hh: float, r: float) -> tuple[float, float]:
    """rho with [[1, 1], [r, 1]] rho = b (UniPC eq. 9), for the older and for the newer difference."""
    b = math.expm1(hh)
    phi = b / hh - 1
    b1 = phi / b
    b2 = (phi / hh - 0.5) * 2 / b
    first = (b2 - b1) / (r - 1)
    return first, b1 - first


SOLVERS: Mapping[str, Callable[[], Solver]] = {
    "ddim": ddim,
    "dpmpp_2m": lambda: Dpmpp2M,
    "unipc": lambda: UniPC,
}
"""By the names of the widgets."""


def solver_named(name: str) -> Solver:
    """The solver of a name; ValueError for others."""
    if name not in SOLVERS:
        raise ValueError(f"A solver is one of {', '.join(SOLVERS)}; {name!r} was given.")
    return SOLVERS[name]()
