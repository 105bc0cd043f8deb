"""Whole evaluations of drawn clips, whose truth, joints and faults are known."""

import csv
import json
import weakref
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image
from xdyna_unianimate.app import scores as scores_module
from xdyna_unianimate.app.benchmark import boiling
from xdyna_unianimate.app.cli import main
from xdyna_unianimate.app.evaluate import Inputs, Tools, evaluate, made_in
from xdyna_unianimate.app.evaluate_files import clip_embedding
from xdyna_unianimate.app.metrics import seams
from xdyna_unianimate.app.metrics.learned import FeatureNetwork
from xdyna_unianimate.app.scores import MEASURES, Scores, Threshold
from xdyna_unianimate.demo import checkpoints, inputs, puppets
from xdyna_unianimate.demo.data import CANVAS, HELD_OUT
from xdyna_unianimate.demo.detector import DemoDetector
from xdyna_unianimate.demo.heldout import HeldOut
from xdyna_unianimate.pose_align.detector import Detection
from xdyna_unianimate.pose_align.interchange import save_poses
from xdyna_unianimate.pose_align.pose import PoseSequence
from xdyna_unianimate.pose_align.skeleton import FACE, Joint
from xdyna_unianimate.video_core.video import open_video, write_video
from xdyna_unianimate.video_core.windows import anchored_windows

from .metrics.networks import mean_network

FRAMES = 12
PUPPET = puppets.Puppet.from_seed(HELD_OUT)
SCENE = puppets.Scene("water", (150, 200, 230), (235, 225, 190), 5)


def poses_of(points) -> PoseSequence:
    points = np.stack(points)
    return PoseSequence(points, np.ones(points.shape[:2]), CANVAS, 12.0)


@pytest.fixture(scope="module")
def clip():
    """(frames, poses) of the dance, and (picture, pose) of the reference."""
    dance = puppets.Motion.from_seed(HELD_OUT)
    frames, points = zip(*puppets.clip(PUPPET, dance, SCENE, FRAMES, CANVAS), strict=True)
    [(reference, still)] = puppets.clip(PUPPET, puppets.STILL, SCENE, 1, CANVAS)
    return list(frames), poses_of(points), reference, poses_of([still])


def again(frames):
    return lambda: iter(frames)


class Knows:
    """A detector that finds what it was told, frame after frame."""

    name, provider = "told", "nothing"

    def __init__(self, poses: PoseSequence) -> None:
        self.poses = poses

    def stream(self, frames):
        for _, points, scores in zip(frames, self.poses.points, self.poses.scores, strict=False):
            box = np.concatenate([points.min(0), points.max(0)])
            yield [Detection(points, scores, box, 1.0)] if scores.any() else []

    def detect(self, frames):
        return list(self.stream(frames))


def test_a_perfect_result(clip):
    frames, poses, reference, still = clip
    inputs = Inputs(again(frames), again(frames), reference, still, poses)
    found = evaluate(inputs, Tools(Knows(poses))).summary
    assert found["psnr"] == 100 and found["ssim"] == pytest.approx(1)
    assert found["joints_5"] == 100 and found["joints_10"] == 100 and found["pose_error"] == 0
    assert found["face_found"] == 100 and found["face_agreement"] == pytest.approx(1)
    for part in ("mouth", "turn", "tilt"):
        assert found[f"{part}_correlation"] == pytest.approx(1)
    assert found["flicker_ratio"] == pytest.approx(1) and found["background_ratio"] == pytest.approx(1)
    assert found["clothing_error"] < 15 and found["reference_similarity"] > 0.8
    assert found["psnr_drop"] == 0 and found["background_energy"] > 0.01


def test_a_copy_of_the_reference_follows_nothing(clip):
    frames, poses, reference, still = clip
    where = Knows(poses_of([still.points[0]] * FRAMES))
    inputs = Inputs(again([reference] * FRAMES), again(frames), reference, still, poses)
    found = evaluate(inputs, Tools(where)).summary
    assert found["joints_5"] < 70 and found["psnr"] < 25
    assert found["flicker"] < 0.05 and found["flicker_ratio"] < 0.05 and found["background_ratio"] < 0.01
    assert "mouth_correlation" not in found


@pytest.fixture(scope="module")
def pan(clip):
    """A camera that moves over a textured wall by 2 pixels a frame, in front of which nobody moves."""
    random = np.random.default_rng(0)
    wall = cv2.GaussianBlur(random.integers(0, 256, (CANVAS[1], 400, 3), np.uint8), (0, 0), 3).astype(float)
    wall = np.clip((wall - wall.mean()) * 4 + 128, 0, 255).astype(np.uint8)
    return [wall[:, start : start + CANVAS[0]] for start in range(100, 100 + 2 * FRAMES, 2)]


def background(result, truth, poses):
    """(amount of motion against the truth's, agreement with it)."""
    found = evaluate(Inputs(again(result), again(truth), found=poses)).summary
    return found["background_ratio"], found["background_agreement"]


def test_the_background_agrees_with_the_truth_or_it_does_not(pan, clip):
    poses = clip[1]
    assert background(pan, pan, poses) == pytest.approx((1, 1))
    assert background([pan[0]] * FRAMES, pan, poses) == (0, 0)
    other = [np.ascontiguousarray(frame[:, ::-1]) for frame in pan]
    ratio, agreement = background(other, [np.ascontiguousarray(frame) for frame in pan], poses)
    assert ratio == pytest.approx(1, abs=0.1) and agreement == pytest.approx(-1, abs=0.02)


@pytest.mark.parametrize(("patch", "levels"), [(8, 3), (4, 4)])
def test_soft_noise_has_the_energy_of_motion_and_agrees_with_nothing(clip, patch, levels):
    frames, poses, reference, still = clip
    task = HeldOut(0, PUPPET, reference, still, np.stack(frames), poses, np.stack(frames), poses)
    ratio, agreement = background(boiling(task, patch, levels), frames, poses)
    assert ratio > 1.5 and abs(agreement) < 0.15
    assert background(frames[::-1], frames, poses)[1] < -0.3


def test_a_background_that_stands_still_is_agreed_with_by_nothing(clip):
    frames, poses, reference, _ = clip
    found = evaluate(Inputs(again(frames), again([reference] * FRAMES), found=poses))
    assert "background_agreement" not in found.summary and "background_agreement" not in found.series
    assert "background_energy" in found.summary
    assert any("background_agreement was not measured" in note for note in found.notes)
    assert any("background_ratio was not measured: the truth's" in note for note in found.notes)


def test_the_clips_agreement_weighs_steps_by_their_motion(pan, clip):
    """Right where the truth moves by 2 pixels, wrong where it moves by a quarter of that."""
    poses, slow = clip[1], [cv2.resize(pan[0], None, fx=1, fy=1)]
    for step in range(1, FRAMES):
        shift = np.float32([[1, 0, -0.5 * step], [0, 1, 0]])
        slow.append(cv2.warpAffine(pan[0], shift, CANVAS, borderMode=cv2.BORDER_REFLECT))
    truth, result = [*pan[:6], *slow[:6]], [*pan[:6], *[np.ascontiguousarray(f) for f in slow[5::-1]]]
    found = evaluate(Inputs(again(result), again(truth), found=poses))
    assert found.summary["background_agreement"] > np.nanmean(found.series["background_agreement"]) + 0.2
    assert f"{found.summary['background_agreement']:.3f}" in found.text()


def test_faults_show_where_they_are(clip):
    frames, poses, reference, still = clip
    broken = [frame.copy() for frame in frames]
    broken[7] = np.clip(broken[7].astype(int) + 25, 0, 255).astype(np.uint8)
    lost = replace(poses, scores=np.where(np.arange(FRAMES)[:, None] == 4, 0, poses.scores))
    inputs = Inputs(again(broken), again(frames), reference, still, poses)
    series = evaluate(inputs, Tools(Knows(lost))).series
    assert series["psnr"].argmin() == 7 and (np.delete(series["psnr"], 7) == 100).all()
    assert set(np.argsort(series["flicker"][1:])[-2:] + 1) == {7, 8}
    assert series["joints_10"].tolist() == [100.0] * 4 + [0.0] + [100.0] * 7
    assert np.flatnonzero(np.isnan(series["face_agreement"])).tolist() == [4]


def test_seams(clip):
    frames, poses, *_ = clip
    windows = anchored_windows(FRAMES, 6, 0)
    jump = [np.clip(f.astype(int) + 30 * (i >= 6), 0, 255).astype(np.uint8) for i, f in enumerate(frames)]
    smooth = evaluate(Inputs(again(frames), found=poses, windows=windows))
    seamed = evaluate(Inputs(again(jump), found=poses, windows=windows))
    assert smooth.borders == [5]
    assert smooth.summary["seam_score"] < 2 and seamed.summary["seam_score"] > 3
    whole = evaluate(Inputs(again(frames), found=poses, windows=anchored_windows(FRAMES, FRAMES, 0)))
    assert "seam_score" not in whole.summary and any("0 of 11 steps" in note for note in whole.notes)


def test_what_cannot_be_measured_is_said(clip, monkeypatch):
    frames, poses, reference, still = clip
    alone = evaluate(Inputs(again(frames)))
    assert list(alone.summary) == ["flicker"]
    assert any("No pose was looked for" in note for note in alone.notes)
    nobody = replace(poses, scores=np.zeros_like(poses.scores))
    lost = evaluate(Inputs(again(frames), wanted=nobody), Tools(Knows(nobody)))
    assert any("No pose was found in the result" in note for note in lost.notes)
    assert any("down to the hips" in note for note in lost.notes)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    without = evaluate(Inputs(again(frames), again(frames), found=poses))
    assert "ssim" not in without.summary
    assert any("pip install scikit-image" in note for note in without.notes)


def test_tools_that_compare_with_nothing_say_so(clip, tmp_path):
    frames, poses, *_ = clip
    features = FeatureNetwork(mean_network(tmp_path / "mean.onnx", ["n", 3, 32, 32]))
    tools = Tools(embed=lambda picture: np.ones(4), lpips=lambda picture, truth: 0.0, features=features)
    notes = evaluate(Inputs(again(frames), found=poses), tools).notes
    for name, missing in (
        ("lpips", "true video"),
        ("frechet", "true video"),
        ("embedding", "reference picture"),
    ):
        assert any(note.startswith(name) and missing in note for note in notes), name


def test_numbers_that_a_face_does_not_give_are_said(clip):
    frames, poses, *_ = clip
    faceless = without(poses, FACE)
    stiff = replace(poses, points=np.repeat(poses.points[:1], FRAMES, axis=0))
    seldom = without(poses, FACE, slice(2, None))
    rows = (
        (faceless, poses, "face_found, face_agreement, mouth_correlation", "the driving poses show no face"),
        (poses, faceless, "face_agreement, mouth_correlation", "no face was found in the result"),
        (stiff, poses, "mouth_correlation", "the driving face never moves"),
        (poses, stiff, "mouth_correlation", "the face of the result never moves"),
        (poses, stiff, "face_agreement", "one of them keeps its shape"),
        (poses, seldom, "mouth_correlation", "fewer than 3 frames"),
    )
    for wanted, found, names, reason in rows:
        scores = evaluate(Inputs(again(frames), wanted=wanted, found=found))
        [note] = [note for note in scores.notes if reason in note]
        assert note.startswith(names) and not set(names.split(", ")) & set(scores.summary), note


def test_whatever_is_asked_for_has_a_number_or_a_note(clip):
    """Clips too short or too empty for some measure: every one is in the summary or in a note."""
    frames, poses, reference, still = clip
    lost = without(poses, slice(None), slice(1, None, 2))
    asked = {
        "psnr_drop", "similarity_drop", "flicker_ratio", "background_energy", "background_ratio",
        "background_agreement", "reference_similarity", "clothing_error", "pose_error", "joints_5", "joints_10",
        "face_agreement", "face_found", *(f"{p}_correlation" for p in ("mouth", "eyes", "turn", "nod", "tilt")),
    }  # fmt: skip
    away = replace(poses, points=poses.points + 1000)
    for wanted, found, count in ((poses, poses, 3), (poses, lost, 6), (poses, away, 6), (away, poses, 6)):
        made = Inputs(
            again(frames[:count]), again(frames[:count]), reference, still, wanted[:count], found[:count]
        )
        scores = evaluate(replace(made, wanted=wanted[:count]))
        said = " ".join(scores.notes)
        assert [name for name in asked if name not in scores.summary and name not in said] == []
    one = evaluate(Inputs(again(frames[:1]), found=poses[:1], windows=anchored_windows(1, 1, 0)))
    assert any("single frame" in note for note in one.notes)


def test_the_demos_detector_is_not_believed(clip):
    """It takes a picture for the drawn one that it resembles most."""
    drawn = list(open_video(inputs.DRIVING).frames(max_frames=4))
    found = evaluate(Inputs(again([np.roll(frame, 4, axis=1) for frame in drawn])), Tools(DemoDetector()))
    assert any("knows the drawn inputs by sight" in note for note in found.notes)
    frames, poses, *_ = clip
    assert not any("by sight" in note for note in evaluate(Inputs(again(frames)), Tools(Knows(poses))).notes)


def test_segments_and_windows():
    assert seams.borders(made_in(96, segments=32), 96) == [23, 47, 71]
    assert seams.borders(made_in(96, (32, 0)), 96) == [31, 63]
    assert made_in(96) is None
    with pytest.raises(ValueError, match="in windows or in segments"):
        made_in(96, (32, 0), 32)


def without(poses, joints, frames=slice(None)):
    """The same with these joints not seen in these frames."""
    scores = poses.scores.copy()
    scores[frames, joints] = 0
    return replace(poses, scores=scores)


def test_a_reference_cut_at_the_waist_costs_its_colours_only(clip):
    frames, poses, reference, still = clip
    half = without(still, slice(Joint.R_HIP, Joint.L_ANKLE + 1))
    found = evaluate(Inputs(again(frames), None, reference, half, poses, poses))
    assert found.summary["joints_5"] == 100 and "background_energy" in found.summary
    assert "clothing_error" not in found.summary
    assert any("No colours were compared" in note for note in found.notes)


def test_a_portrait_has_a_face_though_no_height(clip):
    frames, poses, *_ = clip
    bust = without(poses, slice(Joint.R_HIP, Joint.L_ANKLE + 1))
    found = evaluate(Inputs(again(frames), wanted=bust, found=bust))
    assert found.summary["face_found"] == 100 and found.summary["mouth_correlation"] == pytest.approx(1)
    assert found.summary["face_agreement"] == pytest.approx(1) and "joints_5" not in found.summary
    assert any("down to the hips" in note for note in found.notes)


def test_where_nobody_was_found_the_body_is_no_background(clip):
    frames, poses, *_ = clip
    lost = without(poses, slice(None), slice(4, 8))
    whole, gaps = (
        evaluate(Inputs(again(frames), found=own)).series["background_energy"] for own in (poses, lost)
    )
    # Of steps 4 to 8 one end or both are not known.
    assert np.flatnonzero(np.isnan(gaps)).tolist() == [0, *range(4, 9)]
    np.testing.assert_array_equal(gaps[9:], whole[9:])


def test_clips_of_different_length_and_size(clip):
    frames, poses, *_ = clip
    small = [frame[::2, ::2] for frame in frames]
    shorter = evaluate(Inputs(again(frames), again(small[:5]), wanted=poses, found=poses))
    assert shorter.frames == 5 and all(len(s) == 5 for s in shorter.series.values())
    assert any("ends after 5" in note for note in shorter.notes)
    assert any("64 x 96" in note and "128 x 192" in note for note in shorter.notes)
    longer = evaluate(Inputs(again(frames[:4]), again(frames), wanted=poses[:3], found=poses[:4]))
    assert any("goes on after the 4" in note for note in longer.notes)
    assert any("3 poses for 4 frames" in note for note in longer.notes)
    assert np.isnan(longer.series["joints_5"][3]) and longer.series["joints_5"][2] == 100


def test_of_a_wider_truth_the_part_is_compared_that_x_dyna_cuts_out(clip):
    frames, poses, *_ = clip
    wide = [np.pad(frame, ((0, 0), (32, 32), (0, 0)), "edge") for frame in frames]
    tall = [np.pad(frame, ((20, 20), (0, 0), (0, 0)), "edge") for frame in frames]
    for truth, given in ((wide, "192 x 192"), (tall, "128 x 232")):
        inputs = Inputs(again(frames), again(truth), found=poses)
        stretched, cut = evaluate(inputs), evaluate(replace(inputs, truth_cut=True))
        assert stretched.summary["psnr"] < 30 and cut.summary["psnr"] == 100
        assert any(given in note and "128 x 192 of them are left" in note for note in cut.notes)
    same = evaluate(Inputs(again(frames), again(frames), found=poses, truth_cut=True))
    assert same.summary["psnr"] == 100 and not any("true frames" in note for note in same.notes)


@pytest.mark.parametrize(
    ("side", "wanted"), [(8, {"psnr"}), (11, {"psnr", "ssim"}), (12, {"psnr", "ssim", "flicker"})]
)
def test_tiny_clips_have_the_numbers_that_they_can_have(clip, side, wanted):
    tiny = [np.ascontiguousarray(frame[:side, :side]) for frame in clip[0][:3]]
    found = evaluate(Inputs(again(tiny), again(tiny)))
    assert set(found.summary) & {"psnr", "ssim", "flicker"} == wanted
    said = " ".join(found.notes)
    assert ("11 pixels a side" in said) == ("ssim" not in wanted)
    assert ("12 pixels on the longer side" in said) == ("flicker" not in wanted)


def test_poses_of_another_canvas_are_stretched_to_the_result(clip):
    frames, poses, *_ = clip
    wide = replace(poses, points=poses.points * (4, 2), canvas=(4 * CANVAS[0], 2 * CANVAS[1]))
    assert evaluate(Inputs(again(frames), wanted=wide, found=poses)).summary["joints_5"] == 100


def test_frames_are_let_go(clip):
    alive: list[weakref.ref] = []
    most = 0

    def stream():
        nonlocal most
        for _ in range(40):
            frame = np.zeros((48, 32, 3), np.uint8)
            alive.append(weakref.ref(frame))
            most = max(most, sum(ref() is not None for ref in alive))
            yield frame

    evaluate(Inputs(stream, stream))
    assert most <= 8


def test_no_frames_is_an_error():
    with pytest.raises(ValueError, match="no frames"):
        evaluate(Inputs(again([])))


def test_embeddings_and_features(clip, tmp_path):
    frames, poses, reference, _ = clip
    tools = Tools(embed=clip_embedding(checkpoints.CLIP))
    own = evaluate(Inputs(again([reference] * 4), reference=reference, found=poses[:4]), tools)
    np.testing.assert_allclose(own.series["embedding_similarity"], 1, atol=1e-5)
    assert own.summary["similarity_drop"] == pytest.approx(0, abs=1e-6)
    tools = Tools(features=FeatureNetwork(mean_network(tmp_path / "mean.onnx", ["n", 3, 32, 32])))
    same = evaluate(Inputs(again(frames), again(frames)), tools)
    far = evaluate(Inputs(again([frame // 2 for frame in frames]), again(frames)), tools)
    assert same.summary["frechet"] == pytest.approx(0, abs=1e-6) and far.summary["frechet"] > 0.1
    few = evaluate(Inputs(again(frames[:3]), again(frames[:3])), tools)
    assert any("3 samples of 3 features" in note for note in few.notes)


# ---- numbers as files, thresholds, the command -----------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        ("psnr>=23", ""),
        ("psnr > 24.0", "psnr>24 does not hold: psnr is 24."),
        ("flicker<=2", "flicker<=2 does not hold: flicker is 3.5."),
        ("psnr_drop<1.5", "cannot be told"),
    ],
)
def test_thresholds(text, failure):
    assert failure in Threshold.parse(text).failure({"psnr": 24.0, "flicker": 3.5})
    assert bool(failure) == bool(Threshold.parse(text).failure({"psnr": 24.0, "flicker": 3.5}))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("psnr", "like psnr>=23"),
        ("psnr>=x", "like psnr>=23"),
        ("psnr>=1e", "like psnr>=23"),
        ("beauty>1", "no measure 'beauty'"),
    ],
)
def test_thresholds_that_are_none(text, sentence):
    with pytest.raises(ValueError, match=sentence):
        Threshold.parse(text)


def test_files(tmp_path):
    series = {"flicker": np.array([np.nan, 1.0, 3.0, np.nan, 2.0]), "psnr": np.full(5, 20.5)}
    scores = Scores(5, series, {"seam_score": 1.25, "frechet": float("nan")}, [2], ["A note."])
    files = scores_module.write(scores, tmp_path / "new", {"failures": []})
    rows = list(csv.reader(files["csv"].open(encoding="utf-8")))
    assert rows[0] == ["frame", "psnr", "flicker"] and rows[1] == ["0", "20.5", ""] and len(rows) == 6
    content = json.loads(files["json"].read_text(encoding="utf-8"))
    assert content["summary"] == {"psnr": 20.5, "flicker": 2.0, "seam_score": 1.25}
    assert content["series"]["flicker"] == [None, 1.0, 3.0, None, 2.0]
    assert (content["notes"], content["borders"], content["failures"]) == (["A note."], [2], [])
    assert "A note." in scores.text() and "seam_score" in scores.text()


def test_plot_has_a_panel_for_every_series_and_marks_borders():
    flat = Scores(6, {"psnr": np.arange(6.0), "ssim": np.full(6, np.nan), "flicker": np.ones(6)})
    marked = replace(flat, borders=[2])
    height, width = scores_module.PANEL[::-1]
    assert scores_module.plot(flat).shape == (2 * height, width, 3)
    assert (scores_module.plot(flat) != scores_module.plot(marked)).any()
    assert scores_module.plot(Scores(0)).shape == (height, width, 3)


def test_every_measure_is_explained():
    for measure in MEASURES.values():
        assert measure.better in ("higher", "lower", "") and measure.says
    guide = (checkpoints.FOLDER.parents[1] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    assert [name for name in MEASURES if f"`{name}`" not in guide] == []


@pytest.fixture(scope="module")
def files(clip, tmp_path_factory):
    """Files of the clip: (result, truth, poses)."""
    frames, poses, *_ = clip
    folder = tmp_path_factory.mktemp("clip")
    write_video(frames, folder / "truth.mp4", 12)
    write_video([np.roll(frame, 2, axis=1) for frame in frames], folder / "result.mp4", 12)
    save_poses(poses, folder / "poses.npz")
    Image.fromarray(clip[2]).save(folder / "reference.png")
    return folder


def test_command(files, tmp_path, capsys):
    command = ["evaluate", str(files / "result.mp4"), "--truth", str(files / "truth.mp4"), "--no-find-poses"]
    command += ["--driving", str(files / "poses.npz"), "--windows", "6", "2", "--output", str(tmp_path)]
    assert main([*command, "--require", "psnr>=10", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["frames"] == FRAMES and 10 < found["summary"]["psnr"] < 40 and not found["failures"]
    assert {"seam_score", "background_ratio", "background_agreement"} <= set(found["summary"])
    assert "background_agreement" in (tmp_path / "quality.csv").read_text(encoding="utf-8").splitlines()[0]
    assert main([*command, "--require", "background_agreement>=2"]) == 3
    assert "background_agreement>=2 does not hold" in capsys.readouterr().out
    assert {file.name for file in tmp_path.iterdir()} == {"quality.csv", "quality.json", "quality.png"}
    assert main([*command, "--require", "psnr>=90", "--require", "flicker<=200"]) == 3
    shown = capsys.readouterr().out
    assert "psnr>=90 does not hold" in shown and "flicker<=200" not in shown


@pytest.fixture(scope="module")
def pictures(clip, tmp_path_factory):
    """Folders of pictures, exact to the bit: all frames, every second one, and all frames with room beside them."""
    folder = tmp_path_factory.mktemp("pictures")
    wide = [np.pad(frame, ((0, 0), (32, 32), (0, 0)), "edge") for frame in clip[0]]
    for name, frames in (("all", clip[0]), ("half", clip[0][::2]), ("wide", wide)):
        (folder / name).mkdir()
        for number, frame in enumerate(frames):
            Image.fromarray(frame).save(folder / name / f"{number:03}.png")
    return folder


@pytest.mark.parametrize(
    ("result", "words", "equal", "said"),
    [
        ("half", ["--truth", "all", "--interval", "2", "--driving", "poses"], True, "One frame in 2 of the true"),
        ("half", ["--truth", "all", "--interval", "2"], True, "it has 12 frames, the result has 6"),
        ("half", ["--truth", "half", "--interval", "2", "--driving", "poses"], True, "--truth-interval 2 takes"),
        ("half", ["--truth", "half", "--interval", "2"], True, "All frames of the true video"),
        ("half", ["--truth", "all", "--interval", "2", "--truth-interval", "1"], False, ""),
        ("half", ["--truth", "all", "--truth-interval", "2"], True, ""),
        ("half", ["--truth", "all"], False, ""),
        ("all", ["--truth", "all", "--driving", "poses"], True, ""),
    ],
)  # fmt: skip
def test_command_compares_the_true_frames_that_were_used(files, pictures, capsys, result, words, equal, said):
    places = {name: str(pictures / name) for name in ("all", "half")} | {"poses": str(files / "poses.npz")}
    words = [places.get(word, word) for word in words]
    assert main(["evaluate", str(pictures / result), *words, "--no-find-poses", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["summary"]["psnr"] == 100) == equal
    chosen = [note for note in found["notes"] if "interval" in note]
    assert said in " ".join(chosen) and bool(chosen) == bool(said)


def test_command_measures_self_reenactment(tmp_path, monkeypatch, capsys):
    """The driving video as truth, every second frame of which was used."""
    monkeypatch.setenv("XDUA_CACHE", str(tmp_path / "cache"))
    for number, frame in enumerate(open_video(inputs.DRIVING).frames(2)):
        (tmp_path / "result").mkdir(exist_ok=True)
        Image.fromarray(frame).save(tmp_path / "result" / f"{number:03}.png")
    words = [
        "evaluate",
        str(tmp_path / "result"),
        "--truth",
        str(inputs.DRIVING),
        "--driving",
        str(inputs.DRIVING),
    ]
    assert main([*words, "--interval", "2", "--detector", "demo", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["summary"]["psnr"] == 100 and found["summary"]["joints_5"] == 100
    assert any("it has 24 frames, the driving source has 24" in note for note in found["notes"])
    assert any("by sight" in note for note in found["notes"])


@pytest.mark.parametrize(("model", "equal"), [("xdyna", True), ("unianimate", False)])
def test_command_cuts_the_truth_as_the_system_did(pictures, capsys, model, equal):
    words = ["evaluate", str(pictures / "all"), "--truth", str(pictures / "wide"), "--model", model]
    assert main([*words, "--no-find-poses", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["summary"]["psnr"] == 100) == equal
    assert any("less what X-Dyna cuts off" in note for note in found["notes"]) == equal


def test_a_true_interval_without_a_truth(files, capsys):
    assert main(["evaluate", str(files / "result.mp4"), "--no-find-poses", "--truth-interval", "2"]) == 2
    assert "give --truth too" in capsys.readouterr().err


@pytest.fixture
def no_backend(monkeypatch, tmp_path):
    """No detector can be used, and no pose is cached."""
    monkeypatch.setenv("XDUA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("xdyna_unianimate.pose_align.detector.available_backends", lambda folders=(): [])


def test_command_without_a_detector_measures_the_rest(files, no_backend, capsys):
    words = ["evaluate", str(files / "result.mp4"), "--truth", str(files / "truth.mp4"), "--json"]
    assert main([*words, "--reference", str(files / "reference.png")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert "psnr" in found["summary"] and "joints_5" not in found["summary"]
    assert any("no pose detector that can be used" in note for note in found["notes"])


def test_command_with_everything_of_a_demo_run(tmp_path, monkeypatch, capsys):
    """The drawn clip as the result of its own poses, seen by the detector that knows it."""
    monkeypatch.setenv("XDUA_CACHE", str(tmp_path / "cache"))
    words = ["evaluate", str(inputs.DRIVING), "--truth", str(inputs.DRIVING), "--detector", "demo", "--json"]
    words += ["--reference", str(inputs.REFERENCE), "--driving", str(inputs.DRIVING), "--align", "off"]
    words += ["--model", "xdyna", "--max-frames", "24", "--segments", "9", "--require", "joints_5>=99"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["summary"]["joints_5"] == 100 and found["summary"]["psnr"] == 100
    assert {"reference_similarity", "clothing_error", "seam_score", "mouth_correlation"} <= set(
        found["summary"]
    )
    assert (tmp_path / "cache").exists()


def test_command_tells_errors_in_a_sentence(files, capsys):
    result = str(files / "result.mp4")
    assert main(["evaluate", result, "--require", "beauty>1"]) == 1
    assert "no measure 'beauty'" in capsys.readouterr().err
    assert main(["evaluate", result, "--no-find-poses", "--windows", "6", "2", "--segments", "6"]) == 2
    assert "give one of them" in capsys.readouterr().err
    assert main(["evaluate", str(files / "missing.mp4"), "--no-find-poses"]) == 1
    assert "missing.mp4" in capsys.readouterr().err
