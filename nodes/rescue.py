"""What is kept when a sampler stops half-way: the latents so far, where core's Load Latent can have them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from ..video_core.samplers import NonFiniteError
from ..video_core.vae import LatentUnits, Vae
from ..video_core.weights import save_checkpoint
from . import paths

log = logging.getLogger(__name__)

PREFIX = "latents/unfinished"


@contextmanager
def kept(parts: list[Tensor], units: LatentUnits | Vae) -> Iterator[None]:
    """Saves what is finished when the block ends with an error or a cancel, and goes on with that error.

    parts: latents [1, c, f, h, w] in sampler units, to which the block adds what it has finished. A
    NonFiniteError becomes a ValueError that says where its last finite latents are.
    """
    try:
        yield
    except NonFiniteError as error:
        left = [*parts, *([] if error.latents is None else [error.latents.cpu()])]
        if not left:
            raise
        file = _saved(left, units)
        raise ValueError(f"{error} The finite latents, after {error.done} steps, are in {file}.") from error
    except BaseException:
        if parts:
            log.warning("Stopped; the latents that were finished are in %s.", _saved(parts, units))
        raise


def _saved(parts: list[Tensor], units: LatentUnits | Vae) -> Path:
    """A file of the output folder in the form of core's Save Latent."""
    place = paths.save_place(PREFIX)
    latents = units.from_sampler(torch.cat([part.cpu() for part in parts], dim=2)).contiguous()
    tensors = {"latent_tensor": latents, "latent_format_version_0": torch.tensor([])}
    return save_checkpoint(place.folder / f"{place.name}.latent", tensors)
