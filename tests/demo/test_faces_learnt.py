"""What the embedded face ControlNet has learnt: how far eyes and mouth are from the truth with and without its maps."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor
from xdyna_unianimate.demo import train as demo_train
from xdyna_unianimate.video_core.schedule import linear_schedule

BATCHES = (100_009, 100_012, 100_015)
"""Of many clips of two frames each, whose seeds no training came to."""

MIDDLE = 600
"""A timestep in the middle of a run."""

MAPS = {
    "none": lambda faces: None,
    "black": torch.zeros_like,
    "own": lambda faces: faces,
    "another's": lambda faces: faces.roll(1, 0),
}


def windows(faces: Tensor) -> Tensor:
    """[b, 1, F, h, w] of latents: 1 where the local maps show eyes and mouth."""
    shown = rearrange(faces[..., :3], "b f h w c -> b c f h w").amax(1, keepdim=True).float()
    return F.max_pool3d(shown, (1, 8, 8)).clamp(max=1)


@torch.no_grad()
def errors(number: int) -> dict[str, float]:
    """Mean squared error of the clean latents that are foretold, in eye and mouth windows, by what is shown."""
    vae, text, vision = demo_train._trained_before()
    model, empty = demo_train._stored_xdyna(), text.encode(text.config.empty()).last
    batch, draws = demo_train._draw_xdyna(number), torch.Generator().manual_seed(number)
    x0 = demo_train._latents(vae, batch["frames"])
    reference = demo_train._latents(vae, batch["reference"][:, None])
    t, noise = torch.full((len(x0),), MIDDLE), torch.randn(x0.shape, generator=draws)
    signal, spread = demo_train._signal_and_noise(linear_schedule(), t, x0)
    x = signal * x0 + spread * noise
    context = demo_train._context(model, empty, vision, batch["reference"], draws)
    found, near = {}, windows(batch["faces"])
    for name, shown in MAPS.items():
        controls, maps = [(model.pose, demo_train._planes(batch["poses"][:, 1:]))], shown(batch["faces"])
        if maps is not None:
            controls.append((model.face, demo_train._planes(maps)))
        added = demo_train._residuals(controls, x, t, empty)
        predicted = model.unet(torch.cat([reference, x], 2), t, context, added.down, added.mid)[:, :, 1:]
        error = ((predicted - noise) * spread / signal).square()
        found[name] = float((error * near).sum() / near.sum() / x0.shape[1])
    return found


@pytest.mark.slow
def test_own_maps_help_and_anothers_mislead(record_property) -> None:
    several = [errors(number) for number in BATCHES]
    mean = {name: sum(one[name] for one in several) / len(several) for name in MAPS}
    record_property("errors", mean)
    assert mean["own"] < 0.95 * mean["none"], mean
    assert mean["another's"] > mean["none"], mean
    assert abs(mean["black"] / mean["none"] - 1) < 0.05, mean
