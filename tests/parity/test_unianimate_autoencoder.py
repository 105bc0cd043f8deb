"""The autoencoder against UniAnimate's own: posterior, sampled latents, pixels (UniAnimate spec 7)."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from einops import rearrange
from xdyna_unianimate.video_core.vae import Vae, VaeConfig, vae_from_tensors

from .golden import Golden, compare, count, files

FILES = files("unianimate", "autoencoder*")


@cache
def opened(name: str) -> tuple[Golden, Vae]:
    golden = Golden("unianimate", name)
    ldm = golden.meta["config"]
    config = VaeConfig(
        in_channels=ldm["in_channels"],
        out_channels=ldm["out_ch"],
        latent_channels=golden.meta["embed_dim"],
        block_out_channels=tuple(ldm["ch"] * mult for mult in ldm["ch_mult"]),
        layers_per_block=ldm["num_res_blocks"],
        scaling_factor=golden.meta["scale_factor"],
    )
    return golden, vae_from_tensors(golden.under("weights."), config)


@pytest.mark.parametrize("name", FILES)
def test_posterior(name: str) -> None:
    golden, vae = opened(name)
    # The golden pixels are in [-1, 1]; ours come in 0..1.
    posterior = vae.posterior(rearrange(golden["x"] * 0.5 + 0.5, "f c h w -> f h w c"))
    golden.check("mean", posterior.mean)
    golden.check("logvar", posterior.logvar)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("chunk", [1, 4])
def test_sampled_latents(name: str, chunk: int) -> None:
    golden, vae = opened(name)
    frames = rearrange(golden["x"] * 0.5 + 0.5, "f c h w -> f h w c")
    latents = vae.encode(frames, noise=golden["posterior_noise"], chunk=chunk)
    golden.check("latent_scaled", rearrange(latents, "1 c f h w -> f c h w"))


@pytest.mark.parametrize("name", FILES)
def test_decoded(name: str) -> None:
    """The raw output, and what ours gives: raw * 0.5 + 0.5 clamped (UniAnimate spec 2.5), in chunks."""
    golden, vae = opened(name)
    with torch.no_grad():
        golden.check("decoded", vae.network.decode(golden["z"]).sample)
    frames = torch.cat(list(vae.decode(vae.to_sampler(golden["z"]), chunk=2)))
    expected = rearrange((golden["decoded"] * 0.5 + 0.5).clamp(0, 1), "f c h w -> f h w c")
    compare(f"{name}: frames", frames, expected, golden.rule("decoded"))
    count(golden)
