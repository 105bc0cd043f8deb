"""The demo's benchmark on a clip of two frames, and its table on numbers that are known."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from xdyna_unianimate.app import benchmark
from xdyna_unianimate.app.benchmark import (
    BAR,
    BOILING,
    COPY,
    COPY_FIRST,
    FIRST_FRAME,
    REFERENCE,
    SEGMENTS,
    TRUE,
    XDYNA,
    Benchmark,
    Table,
)
from xdyna_unianimate.app.cli import main
from xdyna_unianimate.app.metrics.motion import flow_products
from xdyna_unianimate.app.scores import Scores
from xdyna_unianimate.demo.data import CANVAS, HELD_OUT, _Endless
from xdyna_unianimate.demo.heldout import held_out

SHEET = np.zeros((4, 4, 3), np.uint8)
GOOD = {"psnr": 24.0, "joints_5": 90.0, "joints_10": 95.0, "background_ratio": 0.8, "mouth_correlation": 0.9,
        "psnr_drop": 1.0}  # fmt: skip


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> tuple[Table, dict]:
    """A real run as small as can be, by the command, and what it wrote."""
    folder = tmp_path_factory.mktemp("benchmark")
    kept: list[Table] = []
    run = benchmark.run
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark, "run", lambda *given: kept.append(run(*given)) or kept[0])
        words = ["--clips", "1", "--frames", "2", "--long", "5", "--long-clips", "1", "--steps", "3"]
        assert main(["benchmark", *words, "--device", "cpu", "--output", str(folder)]) == 0
    assert (folder / "benchmark.png").is_file()
    return kept[0], json.loads((folder / "benchmark.json").read_text(encoding="utf-8"))


def test_every_answer_has_its_numbers(table):
    rows, written = table[0].rows, table[1]["rows"]
    assert list(rows) == list(written)
    assert {TRUE, COPY, FIRST_FRAME, REFERENCE, XDYNA} <= set(rows)
    for row in (FIRST_FRAME, REFERENCE, XDYNA):
        assert {"psnr", "joints_5", "joints_10", "clothing_error", "psnr_drop"} <= set(rows[row])
    assert rows[TRUE]["psnr"] == 100 and rows[TRUE]["joints_5"] > 97
    assert rows[TRUE]["background_ratio"] == pytest.approx(1)
    assert rows[COPY]["flicker"] < 0.1 and rows[COPY]["psnr"] < 40 and rows[COPY]["background_ratio"] < 0.01
    assert rows[TRUE]["background_agreement"] == pytest.approx(1) and rows[COPY]["background_agreement"] == 0
    # Soft noise has the energy of a background that moves, and no more joints or colours than the copy that it is of.
    assert rows[BOILING]["background_ratio"] > 0.5 and abs(rows[BOILING]["background_agreement"]) < 0.3
    assert abs(rows[BOILING]["psnr"] - rows[COPY]["psnr"]) < 1
    assert "background_agreement" in table[0].text()
    assert table[0].seen > 90
    assert set(rows[SEGMENTS]) == {"psnr_drop"} and {"psnr_drop"} <= set(rows[COPY]) & set(rows[COPY_FIRST])


def test_the_shipped_weights_are_nearer_to_the_truth_than_a_copy(table):
    rows = table[0].rows
    for row, copy in ((FIRST_FRAME, COPY_FIRST), (REFERENCE, COPY), (XDYNA, COPY)):
        assert rows[row]["psnr"] > rows[copy]["psnr"] + 3, row


def test_the_bar_is_met_and_missed():
    met = Table({FIRST_FRAME: GOOD, SEGMENTS: GOOD, REFERENCE: GOOD, XDYNA: GOOD}, 99.0, SHEET)
    assert met.misses() == [] and "The bar is met." in met.text()
    for rows, name, relation, value in BAR:
        off = value - 0.1 if relation == ">=" else value + 0.1
        missed = Table({**met.rows, rows[0]: {**GOOD, name: off}}, 99.0, SHEET)
        [sentence] = missed.misses()
        assert rows[0] in sentence and name in sentence and sentence in missed.text()
        dumb = {measure: number for measure, number in GOOD.items() if measure != name}
        misses = Table({**met.rows, rows[0]: dumb}, 99.0, SHEET).misses()
        # Without frames to compare there is no row; long clips may be left out.
        asked = name not in ("psnr", "psnr_drop")
        assert misses == [f"{rows[0]}: {name} cannot be told, the bar is {relation} {value:g}."] * asked
    assert Table({TRUE: {"psnr": 1.0}}, 99.0, SHEET).misses() == []


def test_check_turns_a_missed_bar_into_an_exit_code(monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "run", lambda *given: Table({XDYNA: {**GOOD, "psnr": 10.0}}, 99.0, SHEET))
    assert main(["benchmark", "--check"]) == 3
    assert main(["benchmark", "--json"]) == 0
    shown = capsys.readouterr().out
    assert "X-Dyna: psnr is 10, the bar is >= 22." in shown


@pytest.mark.parametrize("wrong", [{"clips": 0}, {"frames": 1}, {"long": -1}])
def test_what_cannot_be_run(wrong):
    with pytest.raises(ValueError, match="at least 1 clip of at least 2 frames"):
        Benchmark(**wrong)


def test_held_out_clips_are_of_one_person_and_never_trained_on():
    task = held_out(3, 2)
    assert task.truth.shape == task.driving.shape == (2, CANVAS[1], CANVAS[0], 3)
    assert (task.truth != task.driving).any() and not np.allclose(
        task.poses.points, task.driving_poses.points
    )
    own = task.from_first_frame()
    assert (own.reference == task.truth[0]).all()
    np.testing.assert_array_equal(own.reference_pose.points, task.poses.points[:1])
    trained = iter(_Endless(lambda seed: seed, HELD_OUT - 2))
    assert all(next(trained) < HELD_OUT for _ in range(6))


# ---- what is counted ---------------------------------------------------------------------------------------


def apart(frames: np.ndarray, levels: int) -> np.ndarray:
    """Frames that differ from these by so many grey levels everywhere."""
    return np.where(frames < 128, frames + levels, frames - levels)


def test_a_given_first_frame_is_no_answer_in_long_clips_either():
    """Equally wrong in every frame but the given one: nothing is lost. Twice as wrong at the end: 6.02 dB."""
    task, sums = held_out(0, 9), benchmark._Sums()

    def fading(task):
        return [*apart(task.truth[:-3], 10), *apart(task.truth[-3:], 20)]

    def steady(task):
        return [task.truth[0], *apart(task.truth[1:], 10)]

    answers = SimpleNamespace(of_long_clips={FIRST_FRAME: steady, SEGMENTS: steady, REFERENCE: fading})
    benchmark._measure_drop(task, answers, sums)
    rows = sums.rows()
    assert rows[FIRST_FRAME] == rows[SEGMENTS] == {"psnr_drop": pytest.approx(0, abs=1e-6)}
    assert rows[REFERENCE]["psnr_drop"] == pytest.approx(20 * np.log10(2))


def test_the_background_of_all_clips_agrees_as_one():
    """A clip that moves four times as far counts sixteen times as much, and one without motion not at all."""
    sums = benchmark._Sums()
    for size, turned in ((4.0, 1), (1.0, -1), (0.0, 1)):
        truth = np.full((10, 2), size)
        scores = Scores(2, clip={"psnr": 20.0}, flows=[flow_products(turned * truth, truth)])
        sums.add(XDYNA, scores)
    sums.add(COPY, Scores(2, clip={"psnr": 20.0}))
    rows = sums.rows()
    assert rows[XDYNA]["background_agreement"] == pytest.approx((16 - 1) / 17)
    assert "background_agreement" not in rows[COPY]


def test_a_mouth_that_never_moves_follows_nothing():
    """However well its opening fits each clip's mean; one that moves with the truth's follows, wherever it is."""
    sums = benchmark._Sums()
    for number in (0, 3):
        poses = held_out(number, 6).poses
        still = replace(poses, points=np.repeat(poses.points[2:3], 6, axis=0))
        sums.add_mouths(COPY, poses, still)
        sums.add_mouths(XDYNA, poses, poses)
        for row in (COPY, XDYNA):
            sums.add_number(row, "psnr", 20.0)
    rows = sums.rows()
    assert "mouth_correlation" not in rows[COPY]
    assert rows[XDYNA]["mouth_correlation"] == pytest.approx(1)
