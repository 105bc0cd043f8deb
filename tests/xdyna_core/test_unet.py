from __future__ import annotations

import json
from collections import Counter

import pytest
import torch
from torch import Tensor, nn
from xdyna_unianimate.video_core.norms import GroupNorm
from xdyna_unianimate.video_core.savings import LayerSavings, set_savings
from xdyna_unianimate.xdyna_core import keys
from xdyna_unianimate.xdyna_core.motion import MotionModule, position_table
from xdyna_unianimate.xdyna_core.resnet import FrameGroupNorm, ResnetBlock
from xdyna_unianimate.xdyna_core.transformer import SpatialTransformer, Strengths
from xdyna_unianimate.xdyna_core.unet import XDynaUNet

from ..manifest import MANIFESTS, shapes, summary, travelling
from .tiny import CONFIG, lively, normal, tiny_inputs, tiny_unet

MANIFEST = MANIFESTS / "xdyna" / "unet3d_xdyna.json"
CLOSE = {"rtol": 0, "atol": 2e-5}


@pytest.fixture(scope="module")
def full_size() -> XDynaUNet:
    with torch.device("meta"):
        return XDynaUNet()


def poisoned(unet: XDynaUNet, *parts: str) -> XDynaUNet:
    """The network with NaN in the weights whose names contain one of the parts: nothing may touch them."""
    for name, parameter in unet.named_parameters():
        if any(part in name for part in parts):
            parameter.fill_(torch.nan)
    return unet


# ---- names, shapes, norms ------------------------------------------------------------------------------


def test_full_size_names_and_shapes_are_the_checkpoints(full_size: XDynaUNet) -> None:
    assert summary(shapes(full_size)) == travelling("xdyna_unet")
    assert len(full_size.state_dict()) == 1326
    assert sum(tensor.numel() for tensor in full_size.state_dict().values()) == 1_321_465_924


@pytest.mark.skipif(not MANIFEST.is_file(), reason="the manifest is not beside this checkout; its summary is")
def test_full_size_is_the_manifest(full_size: XDynaUNet) -> None:
    assert shapes(full_size) == json.loads(MANIFEST.read_text())


def test_groups_of_the_names(full_size: XDynaUNet) -> None:
    assert Counter(keys.group_of(name).name for name in full_size.state_dict()) == {
        "SD1.5 UNet": 686,
        "IP-Adapter": 32,
        "Dynamics-Adapter": 48,
        "motion module": 520,
        "position table": 40,
    }


def test_every_norm_of_the_full_size(full_size: XDynaUNet) -> None:
    """X-Dyna spec 2.2, 2.3, 5: eps, groups, and over which frames the statistics run."""
    seen = Counter()
    for name, module in full_size.named_modules():
        if isinstance(module, nn.LayerNorm):
            assert module.eps == 1e-5, name
            seen["layer"] += 1
        elif isinstance(module, nn.GroupNorm):
            per_frame = ".attentions." in name or "temporal_transformer" in name
            kind = "frame" if per_frame else "window"
            assert type(module) is (FrameGroupNorm if per_frame else GroupNorm), name
            assert (module.eps, module.num_groups) == (1e-6 if per_frame else 1e-5, 32), name
            seen[kind] += 1
    assert seen == {"layer": 16 * 3 + 20 * 3, "frame": 16 + 20, "window": 22 * 2 + 1}


def test_motion_groups_are_fixed() -> None:
    norms = [m for n, m in tiny_unet().named_modules() if n.endswith("temporal_transformer.norm")]
    assert norms
    assert {norm.num_groups for norm in norms} == {32} != {CONFIG.norm_num_groups}


def test_statistics_over_frames_only_in_resnets() -> None:
    x = normal(1, 32, 4, 3, 3)
    other = x.clone()
    other[:, :, 3] += 5
    time, text, image = normal(1, 40), normal(1, 77, 24), normal(1, 16, 24)
    resnet = lively(ResnetBlock(32, 32, 40, groups=8, eps=1e-5), 0)
    transformer = lively(SpatialTransformer(32, 4, 24, groups=8), 0)
    kv = transformer.project(text, image)
    assert not torch.allclose(resnet(x, time)[:, :, 1], resnet(other, time)[:, :, 1], atol=1e-3)
    torch.testing.assert_close(transformer(x, kv)[:, :, :3], transformer(other, kv)[:, :, :3], **CLOSE)


def test_motion_module_passes_the_reference_by() -> None:
    module = lively(MotionModule(32, 4, blocks=1, attentions=2, length=24), 0)
    x = normal(2, 32, 5, 2, 3)
    other = x.clone()
    other[:, :, 0] += 5
    assert torch.equal(module(x)[:, :, 0], x[:, :, 0])
    assert torch.equal(module(x)[:, :, 1:], module(other)[:, :, 1:])
    assert not torch.allclose(module(x)[:, :, 1:], x[:, :, 1:], atol=1e-2)


def test_a_new_motion_module_changes_nothing() -> None:
    x = normal(1, 32, 3, 2, 2)
    assert torch.equal(MotionModule(32, 4, blocks=1, attentions=2, length=24)(x), x)


def test_position_table() -> None:
    table = position_table(24, 8)
    position = torch.arange(24.0)
    assert table.shape == (1, 24, 8)
    torch.testing.assert_close(table[0, :, 0], position.sin())
    torch.testing.assert_close(table[0, :, 3], (position / 10).cos())


# ---- strengths -----------------------------------------------------------------------------------------

ADAPTERS = {
    "reference": ((".to_q_ff.", ".to_out_ff."), ".to_out_ff."),
    "image_prompt": ((".to_k_ip.", ".to_v_ip."), ".to_v_ip."),
}
"""Strength -> (the weights of its adapter, those that its effect is linear in)."""


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_strength_one_is_the_published_network(adapter: str) -> None:
    unet, inputs = tiny_unet(), tiny_inputs()
    assert torch.equal(unet(**inputs, strengths=Strengths(**{adapter: 1.0})), unet(**inputs))


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_strength_zero_leaves_the_adapter_out(adapter: str) -> None:
    weights, linear = ADAPTERS[adapter]
    off, inputs = Strengths(**{adapter: 0.0}), tiny_inputs()
    without = tiny_unet()
    for name, parameter in without.named_parameters():
        if linear in name:
            parameter.zero_()
    left_out = tiny_unet()(**inputs, strengths=off)
    assert torch.equal(poisoned(tiny_unet(), *weights)(**inputs, strengths=off), left_out)
    torch.testing.assert_close(left_out, without(**inputs), **CLOSE)
    assert not torch.allclose(left_out, tiny_unet()(**inputs), atol=1e-2)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_strength_scales_the_adapter(adapter: str) -> None:
    linear, inputs = ADAPTERS[adapter][1], tiny_inputs()
    scaled = tiny_unet()
    for name, parameter in scaled.named_parameters():
        if linear in name:
            parameter.mul_(0.4)
    half = tiny_unet()(**inputs, strengths=Strengths(**{adapter: 0.4}))
    torch.testing.assert_close(half, scaled(**inputs), **CLOSE)


def test_strengths_are_separate_and_leave_no_trace() -> None:
    unet, inputs = tiny_unet(), tiny_inputs()
    before = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    plain = unet(**inputs)
    outputs = [unet(**inputs, strengths=Strengths(a, b)) for a, b in [(0, 1), (1, 0), (0, 0)]]
    assert len({tuple(y.flatten().tolist()) for y in [plain, *outputs]}) == 4
    assert torch.equal(unet(**inputs), plain)
    assert all(torch.equal(tensor, before[name]) for name, tensor in unet.state_dict().items())


# ---- context -------------------------------------------------------------------------------------------


def test_context_rows() -> None:
    unet, inputs = tiny_unet(), tiny_inputs(batch=2)
    rows = [0, 0, 1, 1]
    sample = normal(4, *inputs["sample"].shape[1:])
    projected = unet.project_context(inputs["context"]).rows(rows)
    expected = unet(sample, 481, inputs["context"][rows])
    torch.testing.assert_close(unet(sample, 481, projected), expected, **CLOSE)


def test_a_prompt_in_pieces_gives_a_longer_context() -> None:
    """(F) The original takes 93 tokens only. Text that is there twice counts as it does once."""
    unet, inputs = tiny_unet(), tiny_inputs()
    text, image = inputs["context"].tensor_split([77], dim=1)
    doubled = unet(inputs["sample"], 481, torch.cat([text, text, image], dim=1))
    torch.testing.assert_close(doubled, unet(**inputs), **CLOSE)


@pytest.mark.parametrize("tokens", [16, 77, 92, 94])
def test_other_token_counts_are_refused(tokens: int) -> None:
    with pytest.raises(ValueError, match=rf"has {tokens} tokens\. X-Dyna takes 77 text tokens"):
        tiny_unet().project_context(normal(1, tokens, CONFIG.cross_attention_dim))


def test_tokens_of_another_text_encoder_are_refused() -> None:
    with pytest.raises(ValueError, match="tokens are 1024 wide, X-Dyna takes 24: .* SD1.5's CLIP"):
        tiny_unet().project_context(normal(1, 93, 1024))


# ---- shapes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("frames", "h", "w"), [(1, 5, 7), (24, 3, 2), (2, 9, 4)])
def test_any_size_and_up_to_24_frames(frames: int, h: int, w: int) -> None:
    inputs = tiny_inputs(frames, h, w, batch=1)
    out = tiny_unet()(**inputs)
    assert out.shape == inputs["sample"].shape
    assert out.isfinite().all()


@pytest.mark.parametrize("frames", [0, 25])
def test_other_window_lengths_are_refused(frames: int) -> None:
    with pytest.raises(ValueError, match=rf"A window of {frames} frames .* 1 to 24\. Use context windows"):
        tiny_unet()(**tiny_inputs(frames))


def test_other_channels_are_refused() -> None:
    inputs = tiny_inputs() | {"sample": normal(1, 9, 3, 4, 4)}
    with pytest.raises(ValueError, match=r"takes latents \[batch, 4, 1 \+ frames, .*got \[1, 9, 3, 4, 4\]"):
        tiny_unet()(**inputs)


def residuals(unet: XDynaUNet, inputs: dict) -> tuple[list[Tensor], Tensor]:
    """Residuals of the right shapes for tiny inputs, without the reference frame."""
    b, _, n, h, w = inputs["sample"].shape
    sizes = [(32, h, w), (32, h, w), (32, h // 2, w // 2), (64, h // 2, w // 2)]
    down = [normal(b, c, n - 1, y, x, seed=i) for i, (c, y, x) in enumerate(sizes)]
    return down, normal(b, 64, n - 1, h // 2, w // 2, seed=9)


def test_residuals_come_for_all_skips_or_none() -> None:
    unet, inputs = tiny_unet(), tiny_inputs()
    down, mid = residuals(unet, inputs)
    assert not torch.equal(unet(**inputs, down_residuals=down, mid_residual=mid), unet(**inputs))
    with pytest.raises(ValueError, match="3 ControlNet residuals were given for 4 skips"):
        unet(**inputs, down_residuals=down[:3], mid_residual=mid)
    with pytest.raises(ValueError, match="for the skips and the middle, or for neither"):
        unet(**inputs, down_residuals=down)


def test_timesteps_may_be_given_per_row() -> None:
    unet, inputs = tiny_unet(), tiny_inputs()
    torch.testing.assert_close(unet(**inputs | {"t": torch.tensor([481, 481])}), unet(**inputs), **CLOSE)
    assert not torch.allclose(unet(**inputs | {"t": torch.tensor([481, 1])}), unet(**inputs), atol=1e-3)


def test_half_precision_weights_take_and_give_float32() -> None:
    inputs = tiny_inputs()
    out = tiny_unet().to(torch.bfloat16)(**inputs)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, tiny_unet()(**inputs), rtol=0, atol=0.25)


def test_feed_forward_in_chunks_gives_the_same() -> None:
    unet, inputs = tiny_unet(), tiny_inputs()
    plain = unet(**inputs)
    set_savings(unet, LayerSavings(feed_forward=7 * 32))
    torch.testing.assert_close(unet(**inputs), plain, **CLOSE)
