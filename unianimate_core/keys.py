"""Which tensors of a checkpoint are UniAnimate's, as data (UniAnimate spec 3).

The network's parameters carry the names of the published file (``unianimate_16f_32f_non_ema_223000.pth``),
so there is nothing to rename. What a file may have besides: a ``state_dict`` wrapper, which
``open_checkpoint`` takes off, one of these prefixes on every name, and counters of the training.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ..video_core.families import UNIANIMATE, family_of
from ..video_core.weights import CheckpointError, Renamed, source_of

RELEASE_FILE = "unianimate_16f_32f_non_ema_223000.pth"

PREFIXES = ("module.", "model.", "unet.")
"""What a trainer or an exporter puts before every name (DistributedDataParallel's is the first)."""

COUNTERS = frozenset({"step", "global_step", "epoch"})
"""Entries that the original looks up beside the weights and does not use."""


def network_tensors(tensors: Mapping[str, Tensor]) -> Renamed:
    """The tensors under the network's own names, prefix and counters taken off.

    Raises CheckpointError with the file's kind where its names are another model's. Names and shapes are
    not compared here: ``load_exactly`` does that.
    """
    names = [name for name in tensors if name not in COUNTERS]
    prefix = next((p for p in PREFIXES if all(name.startswith(p) for name in names)), "")
    table = {name.removeprefix(prefix): name for name in names}
    kind = family_of(table)
    if kind not in (None, UNIANIMATE):
        raise CheckpointError(
            f"{source_of(tensors)} is {kind}, not {UNIANIMATE}; choose {RELEASE_FILE} or a conversion of it."
        )
    return Renamed(tensors, table)
