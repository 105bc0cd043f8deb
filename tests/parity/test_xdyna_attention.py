"""X-Dyna's two spatial attentions against the original (X-Dyna spec 3, 4)."""

from __future__ import annotations

import pytest
import torch
from einops import rearrange
from xdyna_unianimate.xdyna_core.adapter import DynamicsAdapterAttention
from xdyna_unianimate.xdyna_core.image_prompt import IPAdapterAttention

from .golden import Golden, cases


@pytest.mark.parametrize(("file", "case"), cases("xdyna", "mixed_attention"))
def test_dynamics_adapter_attention(file: str, case: str) -> None:
    golden = Golden("xdyna", file)
    config, batch = golden.meta["config"], golden.meta["cases"][case]["batch"]
    net = DynamicsAdapterAttention(config["query_dim"], config["heads"], config["dim_head"])
    net.load_state_dict(golden.under("weights."))
    with torch.no_grad():
        y = net(rearrange(golden[f"{case}.x"], "(b f) t c -> b f t c", b=batch))
    golden.check(f"{case}.y", rearrange(y, "b f t c -> (b f) t c"))


@pytest.mark.parametrize(("file", "case"), cases("xdyna", "ip_attention"))
def test_image_prompt_attention(file: str, case: str) -> None:
    golden = Golden("xdyna", file)
    config = golden.meta["config"]
    net = IPAdapterAttention(
        config["query_dim"], config["heads"], config["dim_head"], config["cross_attention_dim"]
    )
    net.load_state_dict(golden.under("weights."))
    context = golden[f"{case}.encoder_hidden_states"]
    text, image = context.split([golden.meta["n_text_tokens"], golden.meta["n_image_tokens"]], dim=1)
    with torch.no_grad():
        golden.check(f"{case}.y", net(golden[f"{case}.x"], net.project_both(text, image)))
