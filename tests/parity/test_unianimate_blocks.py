"""Every block of the network alone: ``blocks_spatial``, ``blocks_temporal``, ``extras_norms``.

What an item is, and how wide, is read off its weights; how many heads it has, off the json.
"""

from __future__ import annotations

import re

import pytest
from einops import rearrange
from torch import Tensor, nn
from xdyna_unianimate.unianimate_core.blocks import Downsample, ResBlock, SpatialTransformer, Upsample
from xdyna_unianimate.unianimate_core.temporal import TemporalConvBlock, TemporalTransformer
from xdyna_unianimate.unianimate_core.towers import FrameTransformer
from xdyna_unianimate.unianimate_core.unet import output_head
from xdyna_unianimate.video_core.attention import sinusoidal_embedding

from .golden import Golden, cases, folder

USUAL_HEAD_DIM = 16
"""Of a transformer whose heads neither json nor README tell."""


def weights(golden: Golden, item: str) -> dict[str, Tensor]:
    return golden.under(f"weights.{item}.")


def head_dim(golden: Golden, item: str, inner: int) -> int:
    """From the item's text, else from what the folder's README says of it."""
    readme = folder() / "unianimate" / "README.md"
    told = re.search(r"heads[ =](\d+)", golden.meta["items"].get(item, ""))
    told = told or re.search(rf"`{item}` has (\d+) heads", readme.read_text() if readme.is_file() else "")
    return inner // int(told.group(1)) if told else USUAL_HEAD_DIM


def build(golden: Golden, item: str) -> nn.Module:
    """The module whose parameters an item's weights are, loaded with them."""
    state = weights(golden, item)
    shape = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if "temopral_conv.conv1.0.weight" in shape:
        out_dim, in_dim = shape["in_layers.2.weight"][:2]
        module = ResBlock(in_dim, out_dim, shape["emb_layers.1.weight"][1])
    elif "proj_in.weight" in shape:
        inner, dim = shape["proj_in.weight"][:2]
        width = head_dim(golden, item, inner)
        if len(shape["proj_in.weight"]) == 3:
            module = TemporalTransformer(dim, inner // width, width)
        else:
            context_dim = shape["transformer_blocks.0.attn2.to_k.weight"][1]
            module = SpatialTransformer(dim, inner // width, width, context_dim)
    elif "layers.0.0.norm.weight" in shape:
        module = FrameTransformer(*shape["layers.0.0.norm.weight"])
    elif "conv4.3.weight" in shape:
        module = TemporalConvBlock(*shape["conv1.0.weight"])
    elif "op.weight" in shape:
        module = Downsample(shape["op.weight"][0])
    elif "conv.weight" in shape:
        module = Upsample(shape["conv.weight"][0])
    else:
        module = output_head(shape["2.weight"][1], shape["2.weight"][0])
    module.load_state_dict(state)
    return module.eval().requires_grad_(False)


def run(module: nn.Module, x: Tensor, other: Tensor | None, frames: int) -> Tensor:
    """Call a block with the golden's arguments: x, and its embedding or context per image, if any."""
    if isinstance(module, ResBlock):
        return module(x, other, frames)
    if isinstance(module, TemporalTransformer):
        images = rearrange(x, "b c f h w -> (b f) c h w")
        return rearrange(module(images, x.shape[2]), "(b f) c h w -> b c f h w", b=x.shape[0])
    return module(x) if other is None else module(x, other)


def block_items(golden: Golden) -> list[str]:
    return [item for item in golden.meta["items"] if weights(golden, item)]


@pytest.mark.parametrize(("file", "item"), cases("unianimate", "blocks_*", block_items))
def test_block(file: str, item: str) -> None:
    golden = Golden("unianimate", file)
    x, other = golden[f"{item}.in0"], golden.tensors.get(f"{item}.in1")
    golden.check(f"{item}.out", run(build(golden, item), x, other, frames=golden.meta["config"]["f"]))


def sinusoids(golden: Golden) -> list[str]:
    return [name for name in golden.tensors if re.fullmatch(r"sinusoidal\.dim\d+", name)]


@pytest.mark.parametrize(("file", "name"), cases("unianimate", "blocks_*", sinusoids))
def test_time_embedding(file: str, name: str) -> None:
    golden = Golden("unianimate", file)
    dim = int(name.removeprefix("sinusoidal.dim"))
    ours = sinusoidal_embedding(golden["sinusoidal.t"], dim, frequencies="pow")
    golden.check(name, ours, rule={"atol": 1e-6})
