"""GroupNorm and LayerNorm in the dtype and memory layout of what they are given."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .savings import Saving, is_channels_last


class GroupNorm(Saving, nn.GroupNorm):
    """nn.GroupNorm that keeps channels-last tensors channels-last on every device.

    torch does so on the CPU only; its CUDA kernel copies them to channels-first, and the next convolution back.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[n, c, ...] -> the same shape and dtype."""
        if not self.savings.own_precision:
            weight, bias = self.weight.float(), self.bias.float()
            return F.group_norm(x.float(), self.num_groups, weight, bias, self.eps).to(x.dtype)
        if x.device.type != "cpu" and is_channels_last(x) and not torch.is_grad_enabled():
            return channels_last_group_norm(x, self.num_groups, self.weight, self.bias, self.eps)
        return super().forward(x)


class LayerNorm(Saving, nn.LayerNorm):
    """nn.LayerNorm, in float32 where that is asked for."""

    def forward(self, x: Tensor) -> Tensor:
        """[..., c] -> the same shape and dtype."""
        if self.savings.own_precision:
            return super().forward(x)
        weight, bias = self.weight.float(), self.bias.float()
        return F.layer_norm(x.float(), self.normalized_shape, weight, bias, self.eps).to(x.dtype)


def use_our_norms(network: nn.Module) -> None:
    """Let the GroupNorms and LayerNorms of a foreign network be ours: same names, same arithmetic."""
    ours = {nn.GroupNorm: GroupNorm, nn.LayerNorm: LayerNorm}
    for module in network.modules():
        if type(module) in ours and module.weight is not None:
            module.__class__ = ours[type(module)]


def channels_last_group_norm(x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """GroupNorm of x [n, c, ...] that lies channels-last, and so does the result; statistics in float32."""
    grouped = rearrange(x.flatten(2), "n (g c) l -> n l g c", g=groups)
    mean, variance = _moments(grouped)
    weight, bias = (rearrange(p.float(), "(g c) -> g c", g=groups) for p in (weight, bias))
    scale = (variance + eps).rsqrt() * weight
    out = torch.empty_like(grouped)
    torch.addcmul(bias - mean * scale, grouped, scale, out=out)
    return rearrange(out, "n l g c -> n (g c) l").unflatten(2, x.shape[2:])


def _moments(grouped: Tensor) -> tuple[Tensor, Tensor]:
    """float32 mean and variance [n, 1, g, 1] of [n, l, g, c], of which no float32 copy is made."""
    if grouped.dtype == torch.float32:
        variance, mean = torch.var_mean(grouped, dim=(1, 3), correction=0, keepdim=True)
        return mean, variance
    mean = grouped.mean(dim=(1, 3), keepdim=True, dtype=torch.float32)
    length = torch.linalg.vector_norm(grouped, dim=(1, 3), keepdim=True, dtype=torch.float32)
    count = grouped.shape[1] * grouped.shape[3]
    return mean, (length**2 / count - mean**2).clamp(min=0)
