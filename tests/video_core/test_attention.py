from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from xdyna_unianimate.video_core import attention as module
from xdyna_unianimate.video_core.attention import (
    Attention,
    FeedForward,
    FrameAttention,
    attention,
    sinusoidal_embedding,
)
from xdyna_unianimate.video_core.savings import LayerSavings, set_savings

CLOSE = {"rtol": 0, "atol": 1e-6}


def by_hand(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int) -> torch.Tensor:
    """Softmax attention from its definition, head by head."""
    parts = []
    for q1, k1, v1 in zip(q.chunk(heads, -1), k.chunk(heads, -1), v.chunk(heads, -1), strict=True):
        weights = torch.softmax(q1 @ k1.transpose(1, 2) / q1.shape[-1] ** 0.5, dim=-1)
        parts.append(weights @ v1)
    return torch.cat(parts, dim=-1)


@pytest.mark.parametrize("rows", [5, 1])
def test_attention_is_softmax_attention(rows: int) -> None:
    q, k, v = torch.randn(5, 3, 8), torch.randn(rows, 4, 8), torch.randn(rows, 4, 8)
    expected = by_hand(q, k.expand(5, -1, -1), v.expand(5, -1, -1), heads=2)
    torch.testing.assert_close(attention(q, k, v, heads=2), expected, **CLOSE)


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_more_sequences_than_a_kernel_takes(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = torch.randn(5, 3, 8), torch.randn(5, 4, 8), torch.randn(1, 4, 8)
    calls = []
    fused = F.scaled_dot_product_attention

    def counted(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        calls.append(len(q))
        return fused(q, k, v)

    monkeypatch.setattr(module, "MAX_SEQUENCES", limit)
    monkeypatch.setattr(F, "scaled_dot_product_attention", counted)
    torch.testing.assert_close(
        attention(q, k, v, heads=2), by_hand(q, k, v.expand(5, -1, -1), heads=2), **CLOSE
    )
    assert sum(calls) == 5
    assert max(calls) <= limit


@pytest.mark.parametrize("rows", [1, 2, 6])
def test_context_rows_serve_consecutive_inputs(rows: int) -> None:
    layer = Attention(8, heads=2, head_dim=4, context_dim=6)
    x, context = torch.randn(6, 3, 8), torch.randn(rows, 5, 6)
    repeated = context.repeat_interleave(6 // rows, dim=0)
    one_by_one = torch.cat([layer(x[i : i + 1], repeated[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(layer(x, context), one_by_one, **CLOSE)


def test_frame_attention_is_attention_at_each_place() -> None:
    layer = FrameAttention(8, heads=2, head_dim=4)
    x = torch.randn(2, 5, 3, 8)
    out = layer(x)
    for place in range(3):
        torch.testing.assert_close(out[:, :, place], Attention.forward(layer, x[:, :, place]), **CLOSE)


@pytest.mark.parametrize("chunk", [1, 4, 1000])
def test_feed_forward_in_chunks(chunk: int) -> None:
    layer = FeedForward(8)
    x = torch.randn(2, 5, 3, 8)
    plain = layer(x)
    sizes = []
    layer.net[0].register_forward_pre_hook(lambda _module, args: sizes.append(args[0].numel() // 8))
    set_savings(layer, LayerSavings(feed_forward=8 * chunk))
    torch.testing.assert_close(layer(x), plain, **CLOSE)
    assert max(sizes) <= chunk
    assert sum(sizes) == 30


def test_sinusoids_are_cosines_then_sines() -> None:
    t = torch.tensor([0, 3])
    rates = torch.tensor([1.0, 10000**-0.5])
    expected = torch.cat([(t[:, None] * rates).cos(), (t[:, None] * rates).sin(), torch.zeros(2, 1)], dim=1)
    for frequencies in ("exp", "pow"):
        ours = sinusoidal_embedding(t, 5, frequencies=frequencies)
        torch.testing.assert_close(ours, expected, **CLOSE)
