"""The shipped weights and their commands: a seed fixes every network, and runs begin as those of the weights did."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import default_collate
from xdyna_unianimate.app.metrics.fidelity import psnr
from xdyna_unianimate.demo import checkpoints, training
from xdyna_unianimate.demo import train as demo_train
from xdyna_unianimate.demo.architectures import UNIANIMATE
from xdyna_unianimate.demo.data import HELD_OUT
from xdyna_unianimate.demo.heldout import held_out
from xdyna_unianimate.demo.training import LOSSES_TOGETHER, curve
from xdyna_unianimate.unianimate_core.unet import UniAnimateUNet
from xdyna_unianimate.video_core.images import to_bytes, unit
from xdyna_unianimate.video_core.vae import load_vae
from xdyna_unianimate.video_core.weights import open_checkpoint

ROOT = Path(__file__).parents[2]
CURVES = ROOT / "demo" / "curves"
LOSSES = CURVES / "losses.json"

# ---- the same seed, the same weights -----------------------------------------------------------------------

RUNS = (
    # what, words, iterations of the whole plan, of all its stages
    ("autoencoder", (), 2, 2),
    ("decoder", (), 2, 2),
    ("vision", (), 2, 2),
    pytest.param("unianimate", (), 2, 2, marks=pytest.mark.slow),
    pytest.param("xdyna", (), 3, 4, marks=pytest.mark.slow),  # base 1, body 2, face 1
    pytest.param("xdyna", ("--go-on", "--seed", "1"), 3, 3, marks=pytest.mark.slow),  # body 2, face 1
)


class Cut(Exception):
    """A run that was cut off."""


@pytest.fixture
def at_a_tiny_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    """One clip of two frames, or two pictures, in every iteration."""
    measured = demo_train.with_latent_statistics
    monkeypatch.setattr(demo_train, "SHAPES", ((1, 2),))
    monkeypatch.setattr(demo_train, "PLANS", {k: replace(p, batch=2) for k, p in demo_train.PLANS.items()})
    monkeypatch.setattr(demo_train, "with_latent_statistics", partial(measured, pictures=2))


Run = Callable[[str, tuple[str, ...], int, Path], dict[str, Tensor]]


@pytest.fixture
def run(at_a_tiny_scale, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command itself, with what it would write into the demo's weights kept in their stead."""

    def kept(what: str, words: tuple[str, ...], iterations: int, folder: Path) -> dict[str, Tensor]:
        stored: dict[str, Tensor] = {}

        def keep(path: Path, networks: dict[str, nn.Module], configs: object, note: str) -> None:
            for prefix, network in networks.items():
                state = network.state_dict()
                stored.update({f"{path.name} {prefix}{n}": v.clone() for n, v in state.items()})

        monkeypatch.setattr(demo_train, "store", keep)
        assert demo_train.main([what, str(folder), "--iterations", str(iterations), *words]) == 0
        return stored

    return kept


def cut_after(iterations: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The training loop writes its state after so many iterations and stops in the middle of the next."""
    clip, done = training.clip_grad_norm_, count(1)

    def cutting(*given: object) -> object:
        number = next(done)
        if number > iterations:
            raise Cut
        if number == iterations:
            monkeypatch.setattr(training, "STATE_EVERY_SECONDS", -1)
        return clip(*given)

    monkeypatch.setattr(training, "clip_grad_norm_", cutting)


@pytest.mark.parametrize(("what", "words", "iterations", "of_all"), RUNS, ids=lambda value: str(value))
def test_a_seed_fixes_every_network_to_the_bit(
    what: str, words: tuple[str, ...], iterations: int, of_all: int, tmp_path: Path, run: Run
) -> None:
    """A run that was cut off in its last iteration and gone on with, and one in a single piece.

    Both begin anew from the seed, so what they share is what the seed fixes.
    """
    whole = run(what, words, iterations, tmp_path / "whole")
    with pytest.MonkeyPatch.context() as patch:
        cut_after(of_all - 1, patch)
        with pytest.raises(Cut):
            run(what, words, iterations, tmp_path / "cut")
    again = run(what, words, iterations, tmp_path / "cut")
    assert list(whole) == list(again) and len(whole) > 30
    assert [name for name in whole if not torch.equal(whole[name], again[name])] == []
    assert all(torch.isfinite(value).all() for value in whole.values() if value.is_floating_point())


@pytest.mark.slow
def test_another_seed_gives_another_network(tmp_path: Path, run: Run) -> None:
    one, other = (run("decoder", ("--seed", seed), 1, tmp_path / seed) for seed in "01")
    assert any(not torch.equal(one[name], other[name]) for name in one)


# ---- the shipped curves --------------------------------------------------------------------------------------

STAGES = {
    # curve: iterations that its weights were trained for
    "autoencoder": 5000, "decoder": 6000, "vision": 600, "unianimate": 3000,
    "xdyna_base": 320, "xdyna_body": 2240, "xdyna_face": 640, "xdyna_body_more": 2660, "xdyna_face_more": 1140,
}  # fmt: skip


def shipped_losses() -> dict[str, list[float]]:
    return json.loads(LOSSES.read_text(encoding="utf-8"))


def test_every_stage_has_its_losses_and_its_curve(tmp_path: Path) -> None:
    """The pictures in the tree are drawn from the numbers beside them."""
    import cv2

    losses = shipped_losses()
    assert set(losses) == set(STAGES) == {file.stem for file in CURVES.glob("*.png")}
    for name, iterations in STAGES.items():
        # A state that was written between two points of a curve lost one, at that time.
        assert iterations // LOSSES_TOGETHER - len(losses[name]) in (0, 1)
        curve(losses[name], name, tmp_path / f"{name}.png")
        # Where the lines are: OpenCV 5 writes the texts above and beside them in another font.
        drawn, shipped = (cv2.imread(str(folder / f"{name}.png"))[28:, 50:] for folder in (tmp_path, CURVES))
        assert (shipped != 255).any(axis=-1).sum() > 400
        assert np.abs(drawn.astype(int) - shipped).mean() < 0.5


def test_weights_say_how_long_they_were_trained() -> None:
    notes = {file.name: open_checkpoint(file).metadata["note"] for file in checkpoints.FOLDER.iterdir()}
    xdyna = "trained on drawn puppets: 3800 iterations, seed 1"
    assert notes == {
        "vae.safetensors": "trained on drawn puppets: 6000 iterations, seed 0",
        "clip.safetensors": "trained on drawn puppets: 600 iterations, seed 0",
        "unianimate.safetensors": "trained on drawn puppets: 3000 iterations, seed 0",
        **{f"{name}.safetensors": xdyna for name in ("xdyna", "xdyna_pose", "xdyna_face", "xdyna_resampler")},
    }
    assert sum(file.stat().st_size for file in checkpoints.FOLDER.iterdir()) < 40e6


# ---- runs begin as those of the shipped weights did ------------------------------------------------------------

BEFORE = "6fd476c^"
"""The commit of the weights that decoder and X-Dyna's second run went on from."""

BEGINNINGS = (
    # curve, words of the command, its first stage; weights from the commit before
    ("autoencoder", ("autoencoder",), "", False),
    ("vision", ("vision",), "", False),
    # The plan was shortened to 3000 on the way.
    ("unianimate", ("unianimate", "--iterations", "4000"), "", False),
    ("xdyna_base", ("xdyna", "--figure-weight", "1"), "base", False),
    ("decoder", ("decoder",), "", True),
    # Shortened to 3800 on the way.
    ("xdyna_body_more", ("xdyna", "--go-on", "--seed", "1", "--iterations", "5200"), "body", True),
)

TOLERANCE = {"autoencoder": 0.01, "unianimate": 1e-3, "xdyna_base": 1e-3}
"""Relative, of a point of the curve: the first runs rounded otherwise. Others: none."""

KEPT = 6e-7
"""What six decimals of a loss leave open."""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "words", "stage", "before"), BEGINNINGS, ids=[b[0] for b in BEGINNINGS])
def test_a_run_begins_as_that_of_the_shipped_weights_did(
    name: str,
    words: tuple[str, ...],
    stage: str,
    before: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two points of the curve, forty iterations, on the machine of the shipped run with one thread."""
    if before:
        take_weights_before(tmp_path, monkeypatch)
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        cut_after(2 * LOSSES_TOGETHER, patch)
        with pytest.raises(Cut):
            demo_train.main([words[0], str(tmp_path / "run"), *words[1:]])
    state = torch.load(tmp_path / "run" / stage / "state.pt", weights_only=True)
    found, wanted = state["progress"]["losses"], shipped_losses()[name][:2]
    assert found == pytest.approx(wanted, rel=TOLERANCE.get(name, 0), abs=KEPT)


def take_weights_before(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the demo's weights be those of that commit; skips where git does not have it."""
    for file in checkpoints.FOLDER.iterdir():
        take_file(BEFORE, file.name, folder)
    for name, path in vars(checkpoints).items():
        if isinstance(path, Path) and path.suffix:
            monkeypatch.setattr(checkpoints, name, folder / path.name)


def take_file(commit: str, name: str, folder: Path) -> Path:
    """A file of the demo's weights as that commit had it; skips where git does not have it."""
    shown = subprocess.run(
        ["git", "show", f"{commit}:demo/weights/{name}"], cwd=ROOT, capture_output=True, check=False
    )
    if shown.returncode:
        pytest.skip("these weights stand in git's history only, and this is no checkout of it")
    (folder / name).write_bytes(shown.stdout)
    return folder / name


# ---- the autoencoders that were shipped ------------------------------------------------------------------------

AUTOENCODERS = (
    # commit, iterations of the run, side of the squares that are channels, dB on the benchmark's 12 clips
    ("3cf7e5b", 4000, 1, 23.0),
    ("2c398c3", 5000, 4, 28.5),
    ("6fd476c", 6000, 4, 29.9),  # the decoder's, after the 5000 before
)


@pytest.mark.slow
@pytest.mark.parametrize(("commit", "iterations", "patch", "wanted"), AUTOENCODERS)
def test_an_autoencoder_of_squares_is_nearer_to_the_truth(
    commit: str, iterations: int, patch: int, wanted: float, tmp_path: Path
) -> None:
    """Mean PSNR of what each shipped autoencoder makes of the benchmark's frames, its ceiling."""
    file = take_file(commit, "vae.safetensors", tmp_path)
    assert f": {iterations} iterations," in open_checkpoint(file).metadata["note"]
    vae = load_vae(file, torch.float32)
    assert vae.config.patch_size == patch
    found = []
    for number in range(12):
        truth = held_out(number, 8).truth
        made = (frame for chunk in vae.decode(vae.encode(unit(truth))) for frame in to_bytes(chunk))
        found += [psnr(*pair) for pair in zip(made, truth, strict=True)]
    assert np.mean(found) == pytest.approx(wanted, abs=0.1)


# ---- whole trainings, a second time -----------------------------------------------------------------------------

AGAIN = "XDUA_TRAINED_AGAIN"
"""Environment variable: a folder in which each command's run has the folder of its name (``WHOLE``), run to its end."""

WHOLE = (
    # folder; the state in it; curves of its stages; weights from the commit before
    ("autoencoder", "state.pt", {"autoencoder": "."}, True),
    ("decoder", "state.pt", {"decoder": "."}, False),
    ("unianimate", "state.pt", {"unianimate": "."}, False),
    ("xdyna", "face/state.pt", {"xdyna_base": "base", "xdyna_body": "body", "xdyna_face": "face"}, True),
    ("xdyna_more", "face/state.pt", {"xdyna_body_more": "body", "xdyna_face_more": "face"}, False),
)

HELD_OUT_BATCHES = tuple(range(100_009, 100_021))
"""Whose seeds no training came to."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "file", "stages", "before"),
    WHOLE,
    ids=("autoencoder", "decoder", "unianimate", "xdyna", "xdyna_more"),
)
def test_a_whole_training_ends_as_that_of_the_shipped_weights_did(
    name: str,
    file: str,
    stages: dict[str, str],
    before: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    """The last quarter of every curve, and the loss on pictures and clips that no training saw."""
    folder = Path(os.environ.get(AGAIN, "")) / name
    if not os.environ.get(AGAIN) or not (folder / file).is_file():
        pytest.skip(f"{AGAIN} names no folder with a finished {name}/{file}")
    if before:
        take_weights_before(tmp_path, monkeypatch)
    for curve_name, stage in stages.items():
        state = torch.load(folder / stage / "state.pt", weights_only=True)
        assert state["progress"]["iteration"] == STAGES[curve_name], (
            f"{curve_name} has not been run to its end"
        )
        ours, shipped = (
            float(np.mean(losses[-len(losses) // 4 :]))
            for losses in (state["progress"]["losses"], shipped_losses()[curve_name])
        )
        record_property(curve_name, (shipped, ours, ours / shipped))
        assert ours == pytest.approx(shipped, rel=0.05), curve_name
    state = torch.load(folder / file, weights_only=True)["averaged"]
    ours, shipped = held_out_losses(name, state)
    record_property("held out", (shipped, ours, ours / shipped))
    assert ours == pytest.approx(shipped, rel=0.05)


@torch.no_grad()
def held_out_losses(name: str, state: dict[str, Tensor]) -> tuple[float, float]:
    """Mean training loss of the networks of a state and of the stored ones, over the same draws."""
    vae, text, vision = demo_train._trained_before()
    empty = text.encode(text.config.empty())
    if name in ("autoencoder", "decoder"):
        stored = vae
        draw = demo_train._draw_pixels if name == "autoencoder" else demo_train._draw_picture_with_face
        loss = demo_train.reconstruction_loss if name == "autoencoder" else demo_train.decoder_loss
        pictures = [draw(HELD_OUT + number) for number in range(96)]
        shown = [default_collate(pictures[first : first + 8]) for first in range(0, 96, 8)]
    elif name == "unianimate":
        stored = demo_train._filled(UniAnimateUNet(UNIANIMATE), checkpoints.UNIANIMATE)
        loss = demo_train.unianimate_loss(vae, empty.penultimate, vision)
        shown = map(demo_train._draw_unianimate, HELD_OUT_BATCHES)
    else:
        stored = demo_train._stored_xdyna()
        loss = demo_train.xdyna_loss(vae, empty.last, vision, demo_train.MORE_STAGES[-1])
        shown = map(demo_train._draw_xdyna, HELD_OUT_BATCHES)
    again = deepcopy(stored)
    again.load_state_dict(state)
    found: list[list[float]] = []
    for number, batch in enumerate(shown):
        draws = (torch.Generator().manual_seed(number) for _ in range(2))
        found.append(
            [loss(model, batch, draw).item() for model, draw in zip((again, stored), draws, strict=True)]
        )
    ours, shipped = np.mean(found, axis=0)
    return float(ours), float(shipped)
