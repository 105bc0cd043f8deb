from __future__ import annotations

import json

import pytest
import torch
from einops import rearrange
from torch import Tensor, nn
from xdyna_unianimate.xdyna_core.config import ControlNetConfig
from xdyna_unianimate.xdyna_core.controlnet import ControlNet

from ..manifest import MANIFESTS, shapes, summary, travelling
from .tiny import CONTROL, normal, tiny_controlnet, tiny_inputs, tiny_unet

FULL_SIZE = {
    "xdyna_controlnet_pose": (3, 361_279_120, MANIFESTS / "xdyna" / "controlnet_pose_sd15.json"),
    "xdyna_controlnet_face": (6, 361_279_552, MANIFESTS / "xdyna" / "controlnet_sface_sd15_6ch.json"),
}
CLOSE = {"rtol": 0, "atol": 1e-5}


def clip(net: ControlNet, b: int = 2, f: int = 3) -> dict[str, Tensor]:
    """Latents, text and control pictures of a little clip."""
    return {
        "latents": normal(b, 4, f, 4, 6),
        "text": normal(b, 77, CONTROL.cross_attention_dim, seed=5),
        "images": normal(f, net.config.conditioning_channels, 32, 48, seed=6).sigmoid(),
    }


def run(net: ControlNet, given: dict[str, Tensor], **options: float | int | None):
    embedding = net.embed(given["images"], options.get("chunk"))
    return net(given["latents"], 481, given["text"], embedding, **options)


@pytest.mark.parametrize("name", FULL_SIZE)
def test_full_size_names_and_shapes_are_the_checkpoints(name: str) -> None:
    channels, elements, manifest = FULL_SIZE[name]
    with torch.device("meta"):
        ours = shapes(ControlNet(ControlNetConfig(conditioning_channels=channels)).net)
    assert summary(ours) == travelling(name)
    assert (len(ours), sum(torch.Size(shape).numel() for shape in ours.values())) == (340, elements)
    if manifest.is_file():
        assert ours == json.loads(manifest.read_text())


def test_every_norm_of_the_full_size() -> None:
    with torch.device("meta"):
        net = ControlNet().net
    for name, module in net.named_modules():
        if isinstance(module, nn.GroupNorm):
            transformer = ".attentions." in name
            assert (module.eps, module.num_groups) == (1e-6 if transformer else 1e-5, 32), name
        assert not isinstance(module, nn.LayerNorm) or module.eps == 1e-5, name


@pytest.mark.parametrize("channels", [3, 6])
def test_frames_of_a_clip_are_pictures_of_diffusers_network(channels: int) -> None:
    net = tiny_controlnet(channels)
    given = clip(net)
    ours = run(net, given)
    down, mid = net.net(
        rearrange(given["latents"], "b c f h w -> (b f) c h w"),
        481,
        given["text"].repeat_interleave(3, dim=0),
        given["images"].repeat(2, 1, 1, 1),
        return_dict=False,
    )
    for made, plain in zip((*ours.down, ours.mid), (*down, mid), strict=True):
        torch.testing.assert_close(made, rearrange(plain, "(b f) c h w -> b c f h w", b=2), **CLOSE)


def test_chunks_give_the_same() -> None:
    net = tiny_controlnet()
    given = clip(net)
    whole, parts = run(net, given), run(net, given, chunk=4)
    for a, b in zip((*whole.down, whole.mid), (*parts.down, parts.mid), strict=True):
        torch.testing.assert_close(a, b, **CLOSE)


def test_a_frame_does_not_see_the_others() -> None:
    net = tiny_controlnet()
    given = clip(net, b=1)
    alone = {**given, "latents": given["latents"][:, :, 1:2], "images": given["images"][1:2]}
    torch.testing.assert_close(run(net, given).frames([1]).mid, run(net, alone).mid, **CLOSE)


def test_strengths() -> None:
    net, unet = tiny_controlnet(), tiny_unet()
    given, inputs = clip(net, f=3), tiny_inputs(3, 4, 6)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    full, half = run(net, given), run(net, given, strength=0.5)
    assert torch.equal(run(net, given, strength=1.0).mid, full.mid)
    assert all(torch.equal(h, f / 2) for h, f in zip(half.down, full.down, strict=True))
    assert run(net, given, strength=0.0) is None
    controlled = unet(**inputs, down_residuals=full.down, mid_residual=full.mid)
    assert not torch.allclose(controlled, unet(**inputs), atol=1e-2)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_pose_and_face_add_up() -> None:
    pose, face = tiny_controlnet(3), tiny_controlnet(6, seed=8)
    a, b = run(pose, clip(pose)), run(face, clip(face))
    total = a + b
    assert torch.equal(total.mid, a.mid + b.mid)
    assert all(torch.equal(t, x + y) for t, x, y in zip(total.down, a.down, b.down, strict=True))


def test_other_pictures_are_refused() -> None:
    net = tiny_controlnet(3)
    given = clip(net)
    with pytest.raises(ValueError, match="takes 3 control channels .* the pictures have 6"):
        net.embed(normal(2, 6, 32, 48))
    with pytest.raises(ValueError, match=r"embed to \[3, 4, 5\] .* the latents are \[3, 4, 6\]"):
        run(net, {**given, "images": given["images"][..., :40]})
    with pytest.raises(ValueError, match=r"embed to \[2, 4, 6\]"):
        run(net, {**given, "images": given["images"][:2]})


def test_half_precision() -> None:
    net = tiny_controlnet().to(torch.bfloat16)
    assert run(net, clip(net)).mid.dtype == torch.bfloat16
