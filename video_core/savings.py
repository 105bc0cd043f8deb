"""How the layers of both networks go about their work: savings that change no result beyond rounding.

Each can be switched off by itself; with all of them off a network works as published (``PLAIN_LAYERS``), which
is the truth that the others are compared with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

FEED_FORWARD_VALUES = 2**23
"""Tokens times width in one pass of a feed-forward: enough to fill a GPU, a fraction of a window at full size."""

GROUP_VALUES = 2**24
"""Tokens times width in one pass of a transformer: eight pictures of 768 x 512, or 33 frames at 1588 places."""

SCORE_BYTES = 2**28
"""Attention scores that are held at a time where no fused kernel does without them."""


@dataclass(frozen=True)
class LayerSavings:
    """Switches of the layers.

    channels_last: activations lie channels-last, so that convolutions, norms over frames and tokens are views of
        one another; off: channels first, with a copy between any two of them.
    own_precision: norms take and give the weights' dtype (statistics are float32 inside the kernels); off: they
        go through float32 and back, as under autocast.
    shared_context: keys and values of a context once for all frames of a clip; off: for a copy per frame.
    shared_time: UniAnimate's time embedding in one row per clip; off: one per frame.
    shared_reference: X-Dyna's adapter keys and values are broadcast; off: copied for every frame.
    feed_forward: values (tokens x width) in one pass of a feed-forward; None: all.
    group: values in one pass of a transformer (frames or places, whichever do not see each other), and in one of
        UniAnimate's residual blocks, whose norms see single frames; None: all.
    scores: bytes of attention scores at a time where no fused kernel exists; None: all.
    """

    channels_last: bool = True
    own_precision: bool = True
    shared_context: bool = True
    shared_time: bool = True
    shared_reference: bool = True
    feed_forward: int | None = FEED_FORWARD_VALUES
    group: int | None = GROUP_VALUES
    scores: int | None = SCORE_BYTES


PLAIN_LAYERS = LayerSavings(False, False, False, False, False, None, None, None)
"""The published order of work."""


class Saving:
    """A layer that has a choice."""

    savings: LayerSavings = LayerSavings()


def set_savings(network: nn.Module, savings: LayerSavings) -> None:
    """Let every layer of a network work that way; its weights stay as they are."""
    for module in network.modules():
        if isinstance(module, Saving):
            module.savings = savings


def in_parts(fn: Callable[..., Tensor], size: int | None, *tensors: Tensor, dim: int = 0) -> Tensor:
    """fn(*tensors), computed for ``size`` entries of their dimension ``dim`` at a time; None = all at once.

    For an fn that maps each entry by itself to one entry of the result. Only one part's intermediate tensors
    are alive at a time, beside the whole result, which lies in memory as a part's does.
    """
    length = tensors[0].shape[dim]
    if size is None or size >= length:
        return fn(*tensors)
    whole = None
    for start in range(0, length, size):
        part = fn(*(tensor.narrow(dim, start, min(size, length - start)) for tensor in tensors))
        if whole is None:
            whole = _longer(part, dim, length)
        whole.narrow(dim, start, part.shape[dim]).copy_(part)
    return whole


def _longer(part: Tensor, dim: int, length: int) -> Tensor:
    """An empty tensor with ``length`` entries along ``dim``, which lies in memory as ``part`` does."""
    shape = [length if axis == dim else extent for axis, extent in enumerate(part.shape)]
    order = sorted(range(part.ndim), key=lambda axis: -part.stride(axis))
    return torch.empty_permuted(shape, order, dtype=part.dtype, device=part.device)


def at_once(values: int | None, each: int) -> int | None:
    """How many things of ``each`` values go into one pass of ``values``, one at least; None = all."""
    return None if values is None else max(1, values // each)


def is_channels_last(x: Tensor) -> bool:
    """Whether [n, c, ...] lies as [n, ..., c] in memory."""
    return x.ndim > 2 and x.movedim(1, -1).is_contiguous()


def places_joined(x: Tensor) -> Tensor:
    """[b, c, f, h, w] -> [b, c, f, (h w)]; what lies channels-last does so afterwards in torch's eyes too.

    A plain view would do, but gives a batch of one a stride by which torch no longer knows the layout.
    """
    return x.movedim(1, -1).flatten(2, 3).movedim(-1, 1) if is_channels_last(x) else x.flatten(3)


def laid_out(frames: Tensor, channels_last: bool) -> Tensor:
    """Frames [n, c, h, w] lying channels-last, or as they are."""
    return frames.contiguous(memory_format=torch.channels_last) if channels_last else frames
