"""Fast mode: what it may be told, guidance in a part of the steps, deep features, compiling."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from xdyna_unianimate.video_core.deep import DeepFeatures
from xdyna_unianimate.video_core.fast import EXACT, Fast, guided_during
from xdyna_unianimate.video_core.storage import IN_MEMORY, OnDisk

STEPS = [800, 600, 400, 200]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"solver": "euler"}, "'euler' was given"),
        ({"guided_from": 0.6, "guided_until": 0.5}, "0.6 to 0.5 was given"),
        ({"guided_until": 1.5}, "0 to 1"),
        ({"reuse_every": 0}, "0 was given"),
    ],
)
def test_what_cannot_be_is_a_sentence(wrong: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Fast(**wrong)


def both(latents: Tensor, t: int) -> Tensor:
    return torch.cat([latents * 0, latents + 1])


def alone(latents: Tensor, t: int) -> Tensor:
    return latents + 1


def test_guidance_acts_in_its_steps_only() -> None:
    x = torch.ones(1, 1, 1, 1, 1)
    predict = guided_during(both, alone, 3.0, STEPS, Fast(guided_from=0.25, guided_until=0.75))
    assert [predict(x, t).item() for t in STEPS] == [2.0, 6.0, 6.0, 2.0]


def test_guidance_in_all_steps_needs_no_further_denoiser() -> None:
    x = torch.ones(1, 1, 1, 1, 1)
    assert guided_during(both, None, 3.0, STEPS, EXACT)(x, 800).item() == 6.0
    with pytest.raises(ValueError, match="conditional branch alone"):
        guided_during(both, None, 3.0, STEPS, Fast(guided_until=0.5))


def test_guidance_in_no_step() -> None:
    x = torch.ones(1, 1, 1, 1, 1)
    predict = guided_during(both, alone, 3.0, STEPS, Fast(guided_until=0.0))
    assert [predict(x, t).item() for t in STEPS] == [2.0] * 4


def test_deep_features_are_kept_per_frame_and_given_between_whole_steps() -> None:
    features = DeepFeatures(STEPS, 2)
    whole = features.at(800, [0, 1], [[0, 1], [1, 2]])
    assert not whole.given
    made = torch.arange(4 * 3.0).reshape(4, 1, 3, 1, 1)
    whole.keep(made)
    between = features.at(600, [1], [[2, 0]])
    assert between.given
    # Branch 1: rows 2 and 3; the reference's slot is what its last window made of it.
    assert between.take().flatten().tolist() == [9.0, 11.0, 7.0]
    assert not features.at(400, [0, 1], [[0, 1], [1, 2]]).given
    assert not features.at(600, [0], [[3]]).given, "a frame that no whole step has seen"


@pytest.mark.parametrize("disk", [True, False])
def test_deep_features_of_many_windows_wait_where_the_clip_does(disk: bool, tmp_path) -> None:
    """In one tensor for each branch, and they come back as they were."""
    made = torch.randn(4, 2, 3, 5, 1)
    windows = [[0, 1], [1, 2]]
    storage = OnDisk(tmp_path) if disk else IN_MEMORY
    features, near = DeepFeatures(STEPS, 2, frames=3, storage=storage), DeepFeatures(STEPS, 2)
    for one in (features, near):
        one.at(800, [0, 1], windows).keep(made)
    for asked in (windows, [[2, 0]]):
        assert torch.equal(*(one.at(600, [0, 1], asked).take() for one in (features, near)))
    places = {kept.untyped_storage().data_ptr() for kept in features.kept.values()}
    assert len(places) == 2 and made.data_ptr() not in places


def test_deep_features_of_one_window_stay_where_they_are() -> None:
    made, features = torch.randn(1, 2, 3, 5, 1), DeepFeatures(STEPS, 2, frames=2)
    features.at(800, [0], [[0, 1]]).keep(made)
    assert {kept.untyped_storage().data_ptr() for kept in features.kept.values()} == {made.data_ptr()}


def test_every_step_whole_keeps_nothing() -> None:
    assert DeepFeatures(STEPS, 1).at(800, [0], [[0]]) is None


# ---- compiling -----------------------------------------------------------------------------------------


def test_compiled_layers_in_a_process_of_their_own() -> None:
    """torch's compiler, once imported, changes what later tests count on the meta device."""
    script = Path(__file__).parent / "compiled_layers.py"
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["same", "without", "after"]
