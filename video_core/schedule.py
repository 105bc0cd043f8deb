"""Betas, cumulative alphas and the spacings of timesteps: what a diffusion run knows before it starts.

Tables are float64 and are cast to the latents' dtype after indexing, never before: near the terminal step a
float32 table would lose most of its digits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

PredictionType = Literal["epsilon", "v_prediction"]


@dataclass(frozen=True, eq=False)
class Schedule:
    """The noise schedule of one trained network.

    alphas_cumprod: float64 [T], falling; ``alphas_cumprod[t]`` is the share of signal power at timestep t.
    prediction_type: what the network predicts, the noise ("epsilon") or v = sqrt(abar) eps - sqrt(1 - abar)
    x0.
    final_alpha: the alphas_cumprod that the last step of a run goes to.
    """

    alphas_cumprod: Tensor
    prediction_type: PredictionType
    final_alpha: float

    @property
    def train_steps(self) -> int:
        """T, the number of timesteps that the network was trained on."""
        return len(self.alphas_cumprod)

    @property
    def betas(self) -> Tensor:
        """float64 [T]: beta_t = 1 - abar_t / abar_(t-1), with abar_(-1) = 1."""
        before = torch.cat([torch.ones(1, dtype=torch.float64), self.alphas_cumprod[:-1]])
        return 1 - self.alphas_cumprod / before

    def alpha(self, t: int | None) -> Tensor:
        """alphas_cumprod at timestep t, float64 [] on the CPU; ``None`` stands for the end of the run."""
        if t is None:
            return torch.tensor(self.final_alpha, dtype=torch.float64)
        if not 0 <= t < self.train_steps:
            raise ValueError(f"Timestep {t} is outside the schedule, which has 0 to {self.train_steps - 1}.")
        return self.alphas_cumprod[t]

    def add_noise(self, x0: Tensor, noise: Tensor, t: int) -> Tensor:
        """q(x_t | x0): sqrt(abar_t) x0 + sqrt(1 - abar_t) noise; of the shape and type of the noise."""
        alpha = self.alpha(t)
        signal, spread = alpha.sqrt().to(x0.dtype), (1 - alpha).sqrt().to(x0.dtype)
        return (spread * noise).add_(signal * x0)


def linear_betas(first: float = 0.00085, last: float = 0.012, train_steps: int = 1000) -> Tensor:
    """float64 [T], evenly spaced (X-Dyna spec 8.1)."""
    return torch.linspace(first, last, train_steps, dtype=torch.float64)


def scaled_linear_betas(first: float = 0.00085, last: float = 0.012, train_steps: int = 1000) -> Tensor:
    """float64 [T], evenly spaced in the square root (UniAnimate spec 4)."""
    return torch.linspace(first**0.5, last**0.5, train_steps, dtype=torch.float64) ** 2


def alphas_cumprod(betas: Tensor, *, zero_terminal_snr: bool = False) -> Tensor:
    """float64 [T]: the cumulative product of 1 - beta.

    zero_terminal_snr: shift and scale sqrt(abar) so that the last one is exactly 0 and the first one stays
    (Lin et al., "Common diffusion noise schedules and sample steps are flawed", algorithm 1).
    """
    alphas = torch.cumprod(1 - betas, dim=0)
    if not zero_terminal_snr:
        return alphas
    root = alphas.sqrt()
    return ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2


def zero_terminal_snr_schedule(
    first: float = 0.00085, last: float = 0.012, train_steps: int = 1000
) -> Schedule:
    """Scaled-linear betas, zero terminal SNR, v-prediction (UniAnimate spec 4); defaults equal the release.

    K: the last step of a run goes to abar_0, not to 1, so 2.9 % of the noise stays in the result (spec 5).
    """
    table = alphas_cumprod(scaled_linear_betas(first, last, train_steps), zero_terminal_snr=True)
    return Schedule(table, "v_prediction", final_alpha=table[0].item())


def linear_schedule(first: float = 0.00085, last: float = 0.012, train_steps: int = 1000) -> Schedule:
    """Linear betas, noise prediction, a last step to 1 (X-Dyna spec 8.1); defaults equal the release."""
    table = alphas_cumprod(linear_betas(first, last, train_steps))
    return Schedule(table, "epsilon", final_alpha=1.0)


def strided_timesteps(steps: int, train_steps: int = 1000) -> list[int]:
    """{min(1 + k * stride, T - 1)}, descending, stride = T // steps (UniAnimate spec 5).

    K: there can be more timesteps than ``steps`` (30 gives 31: 991 ... 34, 1), and few lists start at T - 1.
    F: where T - 1 is reached (steps 3, 9, 27, 36, 37, 334 and more) the original divides by zero and steps
    to ``t - stride``, which is not the next timestep because the first one was clipped. Here T - 1 stays,
    once, a step always goes to the next timestep of this list, and ``samplers`` takes the limit at zero
    signal. All other lists have ``t - stride`` as the next timestep, so they give what the original gives.
    """
    stride = train_steps // _checked(steps, train_steps)
    return sorted({min(1 + start, train_steps - 1) for start in range(0, train_steps, stride)}, reverse=True)


def leading_timesteps(
    steps: int, strength: float = 1.0, train_steps: int = 1000, *, offset: int = 1
) -> list[int]:
    """offset + stride * (steps - 1 ... 0), stride = T // steps; the last int(steps * strength) of them.

    X-Dyna spec 8.1. K: int() truncates the binary product (100 * 0.29 is 28); strength above 1 counts as 1.
    F: a timestep beyond the table (steps = T) is left out; no used step at all is an error that says so.
    """
    stride = train_steps // _checked(steps, train_steps)
    used = min(int(steps * strength), steps)
    if used < 1:
        raise ValueError(
            f"Strength {strength:g} of {steps} steps leaves no step to run; "
            f"use a strength of at least {1 / steps:.3g} or more steps."
        )
    timesteps = [offset + stride * k for k in reversed(range(used))]
    return [t for t in timesteps if t < train_steps]


def _checked(steps: int, train_steps: int) -> int:
    if not 1 <= steps <= train_steps:
        raise ValueError(f"The number of steps must lie between 1 and {train_steps}; {steps} was given.")
    return steps
