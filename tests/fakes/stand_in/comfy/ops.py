"""Layers whose weights may lie elsewhere and are cast to the input when they are used."""

import torch
import torch.nn.functional as F


class CastWeightBiasOp:
    comfy_cast_weights = False
    weight_function = []
    bias_function = []

    def cast(self, input):
        return (None if t is None else t.to(input.device, input.dtype) for t in (self.weight, self.bias))

    def forward(self, *args, **kwargs):
        if self.comfy_cast_weights:
            return self.forward_comfy_cast_weights(*args, **kwargs)
        return super().forward(*args, **kwargs)


class disable_weight_init:
    class Linear(CastWeightBiasOp, torch.nn.Linear):
        def forward_comfy_cast_weights(self, input):
            return F.linear(input, *self.cast(input))

    class Conv1d(CastWeightBiasOp, torch.nn.Conv1d):
        def forward_comfy_cast_weights(self, input):
            return self._conv_forward(input, *self.cast(input))

    class Conv2d(CastWeightBiasOp, torch.nn.Conv2d):
        def forward_comfy_cast_weights(self, input):
            return self._conv_forward(input, *self.cast(input))

    class Conv3d(CastWeightBiasOp, torch.nn.Conv3d):
        def forward_comfy_cast_weights(self, input):
            return self._conv_forward(input, *self.cast(input))

    class GroupNorm(CastWeightBiasOp, torch.nn.GroupNorm):
        def forward_comfy_cast_weights(self, input):
            return F.group_norm(input, self.num_groups, *self.cast(input), self.eps)

    class LayerNorm(CastWeightBiasOp, torch.nn.LayerNorm):
        def forward_comfy_cast_weights(self, input):
            return F.layer_norm(input, self.normalized_shape, *self.cast(input), self.eps)
