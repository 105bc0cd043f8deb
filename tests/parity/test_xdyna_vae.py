"""The autoencoder against X-Dyna's (Stable Diffusion 1.5's, diffusers' names): X-Dyna spec 1.3 and 1.6."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from einops import rearrange
from xdyna_unianimate.video_core.vae import Vae, VaeConfig, vae_from_tensors

from .golden import Golden, files

FILES = files("xdyna", "vae*")


@cache
def opened(name: str) -> tuple[Golden, Vae]:
    golden = Golden("xdyna", name)
    stored = golden.meta["config"]
    config = VaeConfig(
        in_channels=stored["in_channels"],
        out_channels=stored["out_channels"],
        latent_channels=stored["latent_channels"],
        block_out_channels=tuple(stored["block_out_channels"]),
        layers_per_block=stored["layers_per_block"],
        norm_num_groups=stored["norm_num_groups"],
    )
    return golden, vae_from_tensors(golden.under("weights."), config)


def frames_of(golden: Golden) -> torch.Tensor:
    return rearrange(golden["image"] * 0.5 + 0.5, "f c h w -> f h w c")


@pytest.mark.parametrize("name", FILES)
def test_posterior(name: str) -> None:
    golden, vae = opened(name)
    posterior = vae.posterior(frames_of(golden))
    for tensor in ("mean", "logvar", "std"):
        golden.check(tensor, getattr(posterior, tensor))


@pytest.mark.parametrize("name", FILES)
def test_latents_sampled_with_the_seeded_generator(name: str) -> None:
    golden, vae = opened(name)
    generator = torch.Generator().manual_seed(golden.meta["generator_seed"])
    latents = vae.encode(frames_of(golden), generator=generator)
    golden.check("latents", rearrange(latents, "1 c f h w -> f c h w"))


@pytest.mark.parametrize("name", FILES)
def test_decoded(name: str) -> None:
    golden, vae = opened(name)
    latents = rearrange(golden["latents"], "f c h w -> 1 c f h w")
    with torch.no_grad():
        golden.check("decoded", vae.network.decode(vae.from_sampler(latents)).sample)
