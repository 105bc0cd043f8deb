from __future__ import annotations

import itertools
import json

import pytest
import torch
from torch import Tensor, nn
from xdyna_unianimate.unianimate_core.config import UniAnimateConfig
from xdyna_unianimate.unianimate_core.towers import over_frames
from xdyna_unianimate.unianimate_core.unet import UniAnimateUNet
from xdyna_unianimate.video_core.savings import LayerSavings, set_savings

from ..manifest import MANIFESTS, summary, travelling
from .tiny import CONFIG, tiny_inputs, tiny_unet

MANIFEST = MANIFESTS / "unianimate" / "unet_unianimate.json"

CONDITIONS = ("image", "local_image", "dwpose", "randomref")
CLOSE = {"rtol": 0, "atol": 2e-5}


def meta_unet() -> UniAnimateUNet:
    with torch.device("meta"):
        return UniAnimateUNet()


# ---- names and shapes ----------------------------------------------------------------------------------


def test_full_size_names_and_shapes_are_the_checkpoints() -> None:
    ours = {name: list(tensor.shape) for name, tensor in meta_unet().state_dict().items()}
    assert summary(ours) == travelling("unianimate_unet")
    assert len(ours) == 1544
    assert sum(torch.Size(shape).numel() for shape in ours.values()) == 1_416_564_300


@pytest.mark.skipif(not MANIFEST.is_file(), reason="the manifest is not beside this checkout; its summary is")
def test_the_summary_is_the_manifests() -> None:
    manifest = json.loads(MANIFEST.read_text())
    ours = {name: list(tensor.shape) for name, tensor in meta_unet().state_dict().items()}
    assert ours == manifest
    assert summary(manifest) == travelling("unianimate_unet")


def test_full_size_forward_keeps_the_latents_shape() -> None:
    x = torch.empty(1, 4, 3, 16, 8, device="meta")
    pixels = torch.empty(1, 3, 4, 128, 64, device="meta")
    zero_y, image = torch.empty(1, 77, 1024, device="meta"), torch.empty(1, 1, 1024, device="meta")
    given = {"image": image, "local_image": pixels[:, :, 1:], "dwpose": pixels, "randomref": x}
    out = meta_unet()(x, 991, zero_y=zero_y, **given)
    assert out.shape == x.shape


def test_norms_have_the_published_eps() -> None:
    unet = tiny_unet()
    assert unet.out[0].eps == 1e-5
    for name, module in unet.named_modules():
        if isinstance(module, nn.GroupNorm | nn.LayerNorm):
            of_transformer = isinstance(module, nn.GroupNorm) and name.endswith(".norm")
            assert module.eps == (1e-6 if of_transformer else 1e-5), name


# ---- conditions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("given", [c for n in range(5) for c in itertools.combinations(CONDITIONS, n)])
def test_any_conditions_any_length(given: tuple[str, ...], frames: int) -> None:
    """F: neither one frame nor a reference without its pose stops it (UniAnimate spec 3.2 and 12)."""
    inputs = tiny_inputs(frames)
    out = tiny_unet()(inputs["x"], 500, zero_y=inputs["zero_y"], **{name: inputs[name] for name in given})
    assert out.shape == inputs["x"].shape
    assert out.isfinite().all()


@pytest.mark.parametrize("name", CONDITIONS)
def test_every_condition_counts(name: str) -> None:
    unet, inputs = tiny_unet(), tiny_inputs(3)
    x, zero_y = inputs["x"], inputs["zero_y"]
    without = unet(x, 500, zero_y=zero_y)
    assert (unet(x, 500, zero_y=zero_y, **{name: inputs[name]}) - without).abs().max() > 1e-3


def test_reference_without_pose_is_its_own_tower_alone() -> None:
    unet, inputs = tiny_unet(), tiny_inputs(3)
    conditions = unet.encode_conditions(zero_y=inputs["zero_y"], randomref=inputs["randomref"])
    features = unet.randomref_embedding2(inputs["randomref"][:, :, 0])[:, :, None]
    expected = over_frames(unet.randomref_embedding_after2, features)
    torch.testing.assert_close(conditions.reference, expected)


def test_only_the_first_reference_frame_counts() -> None:
    unet, inputs = tiny_unet(), tiny_inputs(3)
    changed = inputs | {"randomref": inputs["randomref"].clone()}
    changed["randomref"][:, :, 1:] = 7.0
    torch.testing.assert_close(unet(t=500, **changed), unet(t=500, **inputs), rtol=0, atol=0)


@pytest.mark.parametrize(("with_reference", "counts"), [(True, True), (False, False)])
def test_reference_pose_counts_beside_a_reference_alone(with_reference: bool, counts: bool) -> None:
    unet, inputs = tiny_unet(), tiny_inputs(2)
    if not with_reference:
        inputs.pop("randomref")
    changed = inputs | {"dwpose": inputs["dwpose"].clone()}
    changed["dwpose"][:, :, 0] = 0
    assert torch.equal(unet(t=500, **changed), unet(t=500, **inputs)) != counts


def test_without_an_image_its_tokens_are_zeros() -> None:
    """Not what the projection makes of zeros (UniAnimate spec 3.2)."""
    unet, inputs = tiny_unet(), tiny_inputs(1)
    context = unet.encode_context(inputs["zero_y"], None)
    assert context.shape == (1, 5 + CONFIG.num_tokens, CONFIG.context_dim)
    assert not context[:, -CONFIG.num_tokens :].any()
    torch.testing.assert_close(context[:, :5], inputs["zero_y"])


def test_time_embedding_starts_from_ldms_sinusoids() -> None:
    unet, seen = tiny_unet(), []
    unet.time_embed.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    unet.embed_time(torch.tensor([991]))
    rates = torch.pow(10000.0, -torch.arange(CONFIG.dim // 2) / (CONFIG.dim // 2))
    expected = torch.cat([(991 * rates).cos(), (991 * rates).sin()])
    torch.testing.assert_close(seen[0][0], expected, rtol=0, atol=1e-6)


# ---- stages against the plain path -----------------------------------------------------------------------


def encode(unet: UniAnimateUNet, inputs: dict[str, Tensor], **kwargs: int) -> object:
    return unet.encode_conditions(**{name: inputs[name] for name in ("zero_y", *CONDITIONS)}, **kwargs)


@pytest.mark.parametrize("first_frames", ["one picture for all", "a picture per frame"])
def test_windows_of_cached_features_equal_the_plain_path(first_frames: str) -> None:
    unet, inputs = tiny_unet(), tiny_inputs(7)
    if first_frames == "one picture for all":
        inputs["local_image"] = inputs["local_image"][:, :, :1]
    windows = [[0, 1, 2, 3], [3, 4, 5, 6], [5, 6, 0, 1]]
    cached = encode(unet, inputs).windows(windows)
    x = torch.cat([inputs["x"][:, :, w] for w in windows])
    together = unet.denoise(x, 500, cached)
    for ours, window in zip(together, windows, strict=True):
        plain = dict(inputs, x=inputs["x"][:, :, window])
        plain["dwpose"] = inputs["dwpose"][:, :, [0] + [i + 1 for i in window]]  # UniAnimate spec 6
        plain["local_image"] = inputs["local_image"].expand(-1, -1, 7, -1, -1)[:, :, window]
        torch.testing.assert_close(ours[None], unet(t=500, **plain), **CLOSE)


def test_a_window_is_not_a_cut_of_the_clip() -> None:
    """The transformer over frames sees the window's frames: caching its output would be wrong."""
    unet, inputs = tiny_unet(), tiny_inputs(6)
    conditions, window = encode(unet, inputs), [0, 1, 2]
    of_window = unet.assemble_input(inputs["x"][:, :, window], conditions.windows([window]))
    cut = unet.assemble_input(inputs["x"], conditions)[:, :, :4]
    assert (of_window - cut).abs().max() > 1e-4


@pytest.mark.parametrize("at_once", [1, 2, 100])
def test_pictures_in_chunks_and_bytes_give_the_same_conditions(at_once: int) -> None:
    unet, inputs = tiny_unet(), tiny_inputs(3)
    plain = encode(unet, inputs)
    as_bytes = {name: (inputs[name] * 255).round().byte() for name in ("dwpose", "local_image")}
    chunked = encode(unet, inputs | as_bytes, frames_at_once=at_once)
    for name in ("context", "reference", "pose", "first_frame"):
        torch.testing.assert_close(getattr(chunked, name), getattr(plain, name), rtol=0, atol=1e-6)


def test_one_first_frame_stands_for_all() -> None:
    unet, inputs = tiny_unet(), tiny_inputs(4)
    one = dict(inputs, local_image=inputs["local_image"][:, :, :1])
    repeated = dict(inputs, local_image=one["local_image"].expand(-1, -1, 4, -1, -1))
    torch.testing.assert_close(unet(t=500, **one), unet(t=500, **repeated), **CLOSE)


@pytest.mark.parametrize("batch", [1, 2])
def test_branches_in_one_pass_equal_one_after_the_other(batch: int) -> None:
    unet, inputs = tiny_unet(), tiny_inputs(3, batch=batch)
    branches = [unet.encode_conditions(zero_y=inputs["zero_y"]), encode(unet, inputs)]
    t = torch.tensor([500, 34])[:batch]
    together = unet.denoise_branches(inputs["x"], t, branches)
    apart = torch.stack([unet.denoise(inputs["x"], t, branch) for branch in branches])
    torch.testing.assert_close(together, apart, **CLOSE)


def test_items_of_a_batch_do_not_meet() -> None:
    unet, inputs = tiny_unet(), tiny_inputs(3, batch=2)
    t = torch.tensor([991, 34])
    together = unet(t=t, **inputs)
    for item in range(2):
        alone = {k: v if k == "zero_y" else v[item : item + 1] for k, v in inputs.items()}
        torch.testing.assert_close(together[item : item + 1], unet(t=int(t[item]), **alone), **CLOSE)


def test_feed_forward_in_chunks_is_the_same_and_can_be_undone() -> None:
    unet, inputs = tiny_unet(), tiny_inputs(3)
    plain = unet(t=500, **inputs)
    set_savings(unet, LayerSavings(feed_forward=7 * 32))
    torch.testing.assert_close(unet(t=500, **inputs), plain, **CLOSE)
    set_savings(unet, LayerSavings())
    assert torch.equal(unet(t=500, **inputs), plain)


def test_half_precision_weights_take_and_give_float32_latents() -> None:
    inputs = tiny_inputs(2)
    expected = tiny_unet()(t=500, **inputs)
    out = tiny_unet().to(torch.bfloat16)(t=500, **inputs)
    assert out.dtype == torch.float32
    assert (out - expected).norm() < 0.15 * expected.norm()


# ---- refusals ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ((1, 4, 3, 5, 6), "multiples of 16; 48x40"),
        ((1, 3, 3, 4, 6), r"got \[1, 3, 3, 4, 6\]"),
        ((1, 4, 0, 4, 6), r"got \[1, 4, 0, 4, 6\]"),
        ((1, 4, 2, 4, 6), "dwpose .* is 3 frames .* latents are 2 frames"),
        ((1, 4, 3, 8, 8), "dwpose .* is 3 frames of latent size 6x4"),
        ((2, 4, 3, 4, 6), None),
    ],
)
def test_latents_that_do_not_fit_the_poses(shape: tuple[int, ...], says: str | None) -> None:
    unet, inputs = tiny_unet(), tiny_inputs(3)
    conditions = unet.encode_conditions(zero_y=inputs["zero_y"], dwpose=inputs["dwpose"])
    if says is None:  # one clip's conditions serve every item of a batch
        assert unet.denoise(torch.zeros(shape), 500, conditions).shape == shape
    else:
        with pytest.raises(ValueError, match=says):
            unet.denoise(torch.zeros(shape), 500, conditions)


@pytest.mark.parametrize("frames", [2, 4])
def test_first_frames_that_do_not_fit(frames: int) -> None:
    unet, inputs = tiny_unet(), tiny_inputs(3)
    conditions = unet.encode_conditions(zero_y=inputs["zero_y"], local_image=inputs["local_image"])
    with pytest.raises(ValueError, match=f"local_image is 3 frames .* latents are {frames} frames"):
        unet.denoise(torch.zeros(1, 4, frames, 4, 6), 500, conditions)


def test_windows_of_several_clips_are_refused() -> None:
    unet, inputs = tiny_unet(), tiny_inputs(3, batch=2)
    with pytest.raises(ValueError, match="of one clip; these are of 2"):
        encode(unet, inputs).windows([[0, 1]])


def test_config_of_the_release_by_default() -> None:
    assert meta_unet().config == UniAnimateConfig()
