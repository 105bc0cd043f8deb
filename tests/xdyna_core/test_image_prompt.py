from __future__ import annotations

import json

import pytest
import torch
from torch import nn
from xdyna_unianimate.xdyna_core.image_prompt import IPAdapterAttention, Resampler

from ..manifest import MANIFESTS, shapes, summary, travelling
from .tiny import RESAMPLER, lively, normal, tiny_resampler

MANIFEST = MANIFESTS / "xdyna" / "resampler_ipadapter_plus_sd15.json"


def test_full_size_names_and_shapes_are_the_checkpoints() -> None:
    with torch.device("meta"):
        net = Resampler()
    ours = shapes(net)
    assert summary(ours) == travelling("xdyna_resampler")
    assert (len(ours), sum(tensor.numel() for tensor in net.parameters())) == (51, 29_918_208)
    assert {module.eps for module in net.modules() if isinstance(module, nn.LayerNorm)} == {1e-5}
    if MANIFEST.is_file():
        assert ours == json.loads(MANIFEST.read_text())


@pytest.mark.parametrize("tokens", [1, 50, 257])
def test_any_number_of_features_gives_sixteen_tokens(tokens: int) -> None:
    out = tiny_resampler()(normal(2, tokens, RESAMPLER.embedding_dim))
    assert out.shape == (2, RESAMPLER.num_queries, RESAMPLER.output_dim)


def test_both_contexts_are_added_before_the_one_projection() -> None:
    net = lively(IPAdapterAttention(16, 2, 8, 12), 0)
    x, context = normal(1, 5, 16), net.project_both(normal(1, 7, 12, seed=1), normal(1, 4, 12, seed=2))
    text, bias = net(x, context, strength=0.0), net.to_out[0].bias
    strong = net(x, context, strength=2.0)
    image = net(x, context) - text
    torch.testing.assert_close(strong - bias, (text - bias) + 2 * image, rtol=0, atol=1e-6)
