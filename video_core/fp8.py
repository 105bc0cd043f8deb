"""Weights kept in eight bits (float8_e4m3fn) and cast where they are used: half the memory of fp16.

A matter of storage alone: layers compute in the dtype that they had. With one scale per output channel a weight
is off by at most 1/16 of itself (half a step of three mantissa bits), or by 2^-10 of its channel's scale.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

STORED = torch.float8_e4m3fn

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
SMALLEST = 2**16
"""Values of a weight from which it is stored so: smaller ones, such as a network's first and last layers, count
for precision more than for memory.
"""


class StoredInEightBits(nn.Module):
    """A weight as float8 values and one scale per output channel (torch's parametrization)."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, values: Tensor, scale: Tensor) -> Tensor:
        """float8 [out, ...] and scale [out, 1, ...] -> the weight to compute with."""
        return values.to(self.dtype) * scale

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The weight as values and scale."""
        largest = weight.abs().amax(dim=tuple(range(1, weight.ndim)), keepdim=True).float()
        scale = (largest / torch.finfo(STORED).max).clamp(min=torch.finfo(torch.float16).tiny)
        return (weight.float() / scale).to(STORED), scale.to(self.dtype)


def store_in_eight_bits(network: nn.Module) -> nn.Module:
    """Keep the network's large weights in float8; it computes as before. Returns the network.

    ComfyUI cannot leave such layers behind one by one; they are half as large instead.
    """
    for module in list(network.modules()):
        if isinstance(module, LAYERS) and module.weight.numel() >= SMALLEST:
            parametrize.register_parametrization(
                module, "weight", StoredInEightBits(module.weight.dtype), unsafe=True
            )
    return network


def restore(network: nn.Module) -> nn.Module:
    """Plain weights again, at the precision that is left. Returns the network."""
    for module in list(network.modules()):
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight")
    return network
