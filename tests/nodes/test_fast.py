"""Fast mode in a graph: at its defaults the sampler's result is the same bits, otherwise it is near."""

from __future__ import annotations

import pytest
import torch

from ..fakes.executor import NodeError
from .test_unianimate import graph, node

EXACT = {"solver": "ddim", "guided_from": 0.0, "guided_until": 1.0, "reuse_every": 1, "compile": False}


@pytest.fixture(scope="module")
def executor(comfy):
    return comfy.executor()


def with_fast(**changes) -> dict:
    prompt = graph(frames=2, steps=4)
    prompt["20"] = node("XDUA_FastMode", **(EXACT | changes))
    prompt["10"]["inputs"]["fast"] = ["20", 0]
    return prompt


def latents(run) -> torch.Tensor:
    return run.outputs["10"][0]["samples"]


def test_defaults_change_nothing_and_options_change_the_sampler_alone(executor) -> None:
    plain = latents(executor.run(graph(frames=2, steps=4)))
    assert torch.equal(latents(executor.run(with_fast())), plain)
    run = executor.run(with_fast(solver="dpmpp_2m", guided_until=0.5, reuse_every=2))
    near = latents(run)
    assert not torch.equal(near, plain)
    assert (near - plain).pow(2).mean() < plain.var()
    assert not {"2", "3", "8", "9"} & set(run.executed)


def test_what_cannot_be_is_one_sentence(executor) -> None:
    with pytest.raises(NodeError, match="0.9 to 0.1 was given"):
        executor.run(with_fast(guided_from=0.9, guided_until=0.1))
