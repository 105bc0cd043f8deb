"""What is said before anything is loaded, against counts of the specs and what runs were measured to take."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from xdyna_unianimate.app import costs, networks, stages
from xdyna_unianimate.app import estimate as module
from xdyna_unianimate.app.animate import Source
from xdyna_unianimate.app.cli import main
from xdyna_unianimate.app.costs import Seconds
from xdyna_unianimate.app.estimate import estimate, frames_of
from xdyna_unianimate.app.poses import PoseSettings
from xdyna_unianimate.app.remedies import FLAGS, WIDGETS, advice
from xdyna_unianimate.app.stages import Asked
from xdyna_unianimate.app.systems import Sampling, UniAnimate, XDyna
from xdyna_unianimate.demo import inputs

CPU, GPU = torch.device("cpu"), torch.device("cuda")
SOURCE = Source(inputs.REFERENCE, inputs.DRIVING_POSES)
SMALL = Sampling((64, 96), 2, window=4, overlap=1)


def asked(system: UniAnimate | XDyna, frames: int = 9, sampling: Sampling = SMALL) -> Asked:
    return Asked(system, sampling, frames, True, CPU, torch.float32)


def of(system: UniAnimate | XDyna, frames: int = 9, sampling: Sampling = SMALL) -> module.Estimate:
    return estimate(asked(system, frames, sampling), clock=False)


def published(system: UniAnimate | XDyna, frames: int, **sampling) -> Asked:
    """With the releases' networks on a GPU, which are counted and never made."""
    return Asked(system, Sampling(**sampling), frames, False, GPU, torch.float16)


# ---- counts --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def unianimate() -> module.Estimate:
    return estimate(published(UniAnimate(), 32), clock=False)


def test_unianimates_work_is_the_specs(unianimate: module.Estimate) -> None:
    """Cost table: 31 x 135.1 TFLOP of denoising and 32 x 3.80 of decoding at 768 x 512."""
    assert unianimate.tflop == pytest.approx(31 * 135.1 + 32 * 3.80, rel=0.02)
    assert unianimate.ram > 2 * 1_416_564_300 + 4 * stages.RELEASE_ENCODERS["unianimate"]


def test_unianimates_memory_is_what_was_counted_for_the_release(unianimate: module.Estimate) -> None:
    """RESULTS.md, memory: 4.02 GB with one branch at a time; 6 GB are allowed."""
    assert unianimate.device == pytest.approx(4.02e9, rel=0.15)
    assert unianimate.device < 6e9


@pytest.mark.parametrize(
    "system", [UniAnimate(mode="windows"), UniAnimate(mode="continuation"), XDyna()], ids=str
)
def test_memory_does_not_grow_with_the_clip_but_for_what_is_kept_of_frames(system) -> None:
    short, long = of(system, 150), of(system, 500)
    latents = 4 * 4 * 8 * 12
    features = stages.stages_of(asked(system, 500)).feature_bytes() / 500
    copies = 2 if "continuation" in str(system) else 6
    kept = copies * latents + features + module.FRAME_BYTES
    assert long.ram - short.ram == pytest.approx(350 * kept, rel=0.01)
    # Windows of 4: of every 3 new frames one is stored twice, as it is the first of the next segment.
    states = 4 / 3 if "continuation" in str(system) else 2
    assert long.disk - short.disk == pytest.approx(350 * latents * states, rel=0.02)
    assert 2.5 < long.tflop / short.tflop < 4


@pytest.mark.parametrize("system", [UniAnimate(mode="windows"), XDyna()], ids=lambda system: system.system)
def test_tensors_of_long_clips_lie_on_disk(system) -> None:
    """From 513 frames on only a stretch of them is in memory."""
    short, long = of(system, 512), of(system, 1024)
    clip = 4 * 4 * 8 * 12 * 512
    assert long.ram < short.ram
    assert long.disk - short.disk >= 2 * 6 * clip + 1024 * module.POSE_BYTES


def test_only_some_embedded_control_images_are_held() -> None:
    """HINT_FRAMES at small sizes, HINT_BYTES at large ones."""
    small = [stages.stages_of(asked(XDyna(), frames)).hint_bytes() for frames in (10, 100, 128, 500)]
    assert small[1] == 10 * small[0] and small[2] == small[3] == 12.8 * small[0]
    often = stages.stages_of(asked(XDyna(), 256)).conditions(costs.META)[0].times
    assert often == 1.5 * 256 / 4, "128 once, the others in both steps, windows of 4"
    large = stages.stages_of(published(XDyna(), 100, size=(512, 896))).hint_bytes()
    assert 0.9 * 2**27 < large <= 2**27
    assert stages.stages_of(asked(XDyna(face=True), 10)).hint_bytes() == 2 * small[0]


@pytest.mark.parametrize("frames", [4, 10], ids=["one window", "more"])
@pytest.mark.parametrize("system", [UniAnimate(mode="windows"), XDyna()], ids=lambda system: system.system)
def test_deep_features_are_held_for_the_clip(system, frames: int) -> None:
    """Of both branches, whether they run together or not; the counted call does not make them. Of a window they stay
    where it is computed, of more they wait where the clip does.
    """

    def most(**changes) -> tuple[int, int]:
        found = stages.stages_of(asked(system, frames, replace(SMALL, steps=4, **changes))).stages(costs.META)
        return max(stage.beside for stage in found), max(stage.waiting for stage in found)

    beside, waiting = most()
    assert waiting == 0
    for together in (True, False):
        held, kept = most(reuse_every=2, together=together)
        assert (held > beside, kept > 0) == (frames == 4, frames == 10)
        assert kept % (1 + frames) == 0


def test_less_is_predicted_for_less() -> None:
    found = of(XDyna())
    assert of(XDyna(), sampling=replace(SMALL, steps=4)).tflop > 1.3 * found.tflop
    assert of(XDyna(), sampling=replace(SMALL, size=(128, 192))).ram > found.ram


@pytest.mark.parametrize("system", [UniAnimate(), XDyna()], ids=lambda system: system.system)
def test_fast_mode_is_less_work(system) -> None:
    """Guidance in half of the steps, deep features of every other one."""
    exact = of(system, sampling=replace(SMALL, steps=8)).tflop
    alone = 0.5 if system.system == "xdyna" else 1
    assert of(system, sampling=replace(SMALL, steps=8, guidance=alone)).tflop < 0.7 * exact
    assert 0.6 * exact < of(system, sampling=replace(SMALL, steps=8, guided_until=0.5)).tflop < 0.85 * exact
    assert of(system, sampling=replace(SMALL, steps=8, reuse_every=2)).tflop < 0.98 * exact
    kept = of(system, sampling=replace(SMALL, solver="unipc")).disk
    assert kept > 2 * of(system).disk, "UniPC remembers more"


@pytest.mark.parametrize("system", [UniAnimate(mode="windows"), XDyna()], ids=lambda system: system.system)
def test_both_branches_at_once_are_the_same_work_in_more_memory(system) -> None:
    longer = replace(SMALL, window=24)
    one, both = (of(system, 24, replace(longer, together=together)) for together in (False, True))
    assert 0.85 * one.tflop < both.tflop <= 1.01 * one.tflop, "X-Dyna's branches share what comes first"
    assert both.ram >= one.ram
    assert (one.together, both.together) == (False, True)


@pytest.mark.parametrize("system", [UniAnimate(), XDyna()], ids=lambda system: system.system)
def test_together_reaches_the_core(system) -> None:
    published = system.settings(Sampling(), 8).sampling.together
    assert published is (system.system == "xdyna")
    for choice in ("auto", True, False):
        assert system.settings(Sampling(together=choice), 8).sampling.together == choice


def test_auto_takes_both_branches_where_they_fit(monkeypatch) -> None:
    sampling = Sampling((128, 192), 1, window=24, together="auto")
    request = replace(asked(UniAnimate(), 24, sampling), device=GPU)
    assert estimate(request, free=10**11, clock=False).together
    # Of so small a network the other stages need more than denoising.
    for others in ("conditions", "pictures"):
        monkeypatch.setattr(stages.UniAnimateStages, others, lambda *_: [])
    alone = estimate(replace(request, sampling=replace(sampling, together=False)), clock=False)
    found = estimate(request, free=alone.device, clock=False)
    assert found.fits
    assert not found.together
    assert of(UniAnimate(), sampling=replace(SMALL, together="auto")).together is False, (
        "as published on a CPU"
    )
    assert of(XDyna(), sampling=replace(SMALL, together="auto")).together is True


def test_frames_are_counted_without_looking() -> None:
    whole = len(inputs.driving_poses())
    assert frames_of(SOURCE, PoseSettings()) == whole
    assert frames_of(Source(inputs.REFERENCE, inputs.DRIVING), PoseSettings(interval=3)) == -(-whole // 3)
    assert frames_of(SOURCE, PoseSettings(max_frames=5)) == 5


# ---- advice --------------------------------------------------------------------------------------------


def test_advice_names_settings_with_what_is_needed_then_until_it_fits() -> None:
    """Each on top of those before; what changes no result comes first."""
    request = replace(asked(XDyna(), 12, Sampling((128, 192), window=8, batch=2)), device=GPU)
    alone = estimate(_one_by_one(request), clock=False).device
    free = int(0.98 * alone)
    found = estimate(request, free=free, clock=False, words=WIDGETS)
    assert not found.fits
    head, *steps, end = found.advice
    assert head.startswith(f"This needs {found.device / 1e9:.2f} GB and {free / 1e9:.2f} GB are free.")
    assert [line.split(":")[0] for line in steps[:2]] == ["together off", "batch 1"]
    needed = [float(line.split(": ")[1].split(" GB")[0]) for line in steps]
    assert needed == sorted(needed, reverse=True)
    assert needed[1] == pytest.approx(alone / 1e9, rel=0.1)
    assert (len(steps), end) == (3, "That fits."), "one change more, of those that change the result"


def _one_by_one(request: Asked) -> Asked:
    return replace(request, sampling=replace(request.sampling, together=False, batch=1))


def test_a_clip_in_one_piece_is_advised_windows_and_nothing_is_promised() -> None:
    def needed(asked: Asked) -> module.Estimate:
        """A GB for each frame that is seen at once, and one more."""
        return module.Estimate(10**9 * (1 + stages.stages_of(asked).at_once()), 0, 0, 0.0)

    request = published(UniAnimate(mode="short"), 20, size=(512, 768))
    said = advice(request, needed(request), int(17.5e9), FLAGS, needed)
    assert said[1:] == ("--mode windows --context-size 16: 17.00 GB (more seams, slower).", "That fits.")
    assert advice(request, needed(request), 10**9, FLAGS, needed)[-2:] == (
        "--context-size 8: 9.00 GB (more seams, slower).",
        "None of it is enough: take a device with more memory.",
    )
    assert advice(request, needed(request), None, FLAGS, needed) == (), "nobody says what is free"


# ---- time ----------------------------------------------------------------------------------------------


def test_time_is_that_of_one_call_of_each_stage_as_often_as_a_run_makes_it(monkeypatch) -> None:
    called: list[float] = []

    def taken(call, device, enough=0.0) -> Seconds:
        call()
        called.append(1.0)
        return Seconds(2.0, 1.0)

    monkeypatch.setattr(module, "timed", taken)
    monkeypatch.setattr(stages, "timed", lambda *_: Seconds())
    request = asked(XDyna())
    times = [stage.times for stage in stages.stages_of(request).stages(costs.META)]
    found = estimate(request)
    assert len(called) == len(times)
    assert found.processor - module.FIXED.processor == pytest.approx(sum(times), rel=0.05)
    assert found.seconds - module.FIXED.wall == pytest.approx(2 * sum(times), rel=0.05)


def test_what_would_take_long_to_try_is_taken_by_its_operations(monkeypatch) -> None:
    monkeypatch.setattr(module, "timed", None)
    monkeypatch.setattr(module, "rate", lambda *_: Seconds(1e6, 1e6))
    found = estimate(asked(XDyna()))
    assert found.seconds == pytest.approx(1e6 * found.tflop, rel=0.01)


def test_a_measurement_is_as_long_as_it_has_to_be() -> None:
    calls: list[int] = []
    costs.timed(lambda: calls.append(sum(range(10_000))), CPU, enough=0.01)
    assert len(calls) > 2
    calls.clear()
    costs.timed(lambda: calls.append(sum(range(2_000_000))), CPU, enough=1e-4)
    assert len(calls) == 1, "one long call is enough"


def test_seconds_are_computed_with() -> None:
    assert Seconds(3, 2) - Seconds(1, 1) + Seconds(1, 0) * 2 == Seconds(4, 1)


# ---- the command ---------------------------------------------------------------------------------------


WORDS = ("animate", "--reference", str(inputs.REFERENCE), "--driving", str(inputs.DRIVING_POSES), "--weights",
         "demo", "--resolution", "64x96", "--max-frames", "9", "--dry-run")  # fmt: skip


@pytest.mark.parametrize("model", ["unianimate", "xdyna"])
def test_a_dry_run_loads_nothing_and_writes_nothing(model: str, own_place: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(networks, "load", None)
    assert main([*WORDS, "--model", model, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["frames"], said["fits"], said["device"]) == (9, True, 0)
    assert said["seconds"] > 0 < said["processor"]
    assert not (own_place / "outputs").exists()


def test_it_says_what_to_change_where_it_does_not_fit(monkeypatch, capsys) -> None:
    monkeypatch.setattr(module, "free_memory", lambda device: 10**8)
    assert main([*WORDS, "--together", "on"]) == 0
    said = capsys.readouterr().out
    assert "and 0.10 GB are free" in said
    assert "--resolution 64x64: " in said
    assert "None of it is enough" in said


def test_a_list_of_jobs_is_not_estimated(capsys) -> None:
    assert main(["animate", "--jobs", "list.json", "--dry-run"]) == 2
    assert "leave out --jobs" in capsys.readouterr().err
