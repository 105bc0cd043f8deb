"""Every command through ``main``: what it writes, says and returns."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from xdyna_unianimate.app import cli, runs
from xdyna_unianimate.app.cli import main
from xdyna_unianimate.demo import inputs
from xdyna_unianimate.demo.architectures import RESOLUTION
from xdyna_unianimate.pose_align.draw import UNIANIMATE, draw
from xdyna_unianimate.pose_align.interchange import load_poses, save_openpose, save_poses
from xdyna_unianimate.video_core.images import read_picture
from xdyna_unianimate.video_core.video import open_video, write_video

from .conftest import MULTIPLE

SIZE = "32x48"
DRAWN = ("--reference", str(inputs.REFERENCE), "--driving", str(inputs.DRIVING))
QUICK = (
    "--weights", "demo", "--detector", "demo", "--steps", "2", "--resolution", SIZE, "--max-frames", "3",
)  # fmt: skip


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., dict]:
    """Run a command that succeeds; its JSON."""

    def command(*words: object) -> dict:
        code = main([*map(str, words), "--json"])
        said = capsys.readouterr()
        assert code == 0, said.err
        return json.loads(said.out)

    return command


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that fails; its one sentence."""

    def command(*words: object, code: int = 1) -> str:
        assert main([str(word) for word in words]) == code
        said = capsys.readouterr().err
        [line] = [line for line in said.splitlines() if line.startswith("Error: ")]
        assert "Traceback" not in said
        return line.removeprefix("Error: ")

    return command


def frames_of(path: str | Path) -> list[np.ndarray]:
    return list(open_video(path).frames())


# ---- help and usage ------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [(), *((command.name,) for command in cli.COMMANDS)])
def test_every_command_explains_itself(command: tuple[str, ...], capsys) -> None:
    with pytest.raises(SystemExit) as left:
        main([*command, "--help"])
    assert left.value.code == 0
    assert "usage:" in capsys.readouterr().out


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys; from xdyna_unianimate.app.cli import build_parser; build_parser();"
        "print(sorted({'torch', 'av', 'diffusers', 'transformers', 'onnxruntime', 'mediapipe', 'tqdm'} "
        "& set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert said.stdout.strip() == "[]", said.stderr


@pytest.mark.parametrize(
    "words", [["dance"], ["animate", "--model", "other"], ["animate", "--steps", "many"], []]
)
def test_wrong_usage_ends_with_2(words: list[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(words)
    assert left.value.code == 2


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--max-gap", "-1", "a whole number from 0"),
        ("--seed", "-1", "a whole number from 0"),
        ("--width", "0", "a whole number from 1"),
        ("--resolution", "0x64", "a size is WIDTHxHEIGHT"),
        ("--context-batch", "0", "a whole number from 1"),
        ("--context-overlap", "1.5", "a whole number from 0"),
        ("--keep-every", "0", "a whole number from 1"),
        ("--width", "9223372036854775808", "a whole number from 1 to 1000000"),
        ("--width", "9" * 5000, "a whole number from 1"),
        ("--seed", "18446744073709551616", "a whole number from 0 to 18446744073709551615"),
        ("--seed", "9" * 5000, "a whole number from 0"),
        ("--steps", "9" * 5000, "a whole number, not '999"),
        ("--max-frames", "1.5", "a whole number, not '1.5'"),
        ("--resolution", "9x" + "9" * 5000, "a size is WIDTHxHEIGHT"),
        ("--fps", "0", "frames per second above 0"),
        ("--fps", "nan", "frames per second above 0"),
        ("--codec", "mpeg", "There is no codec 'mpeg'; choose one of h264"),
    ],
)
def test_a_number_that_cannot_be_is_told_before_anything_is_made(option, value, said, capsys) -> None:
    with pytest.raises(SystemExit) as left:
        main(["animate", *DRAWN, *QUICK, f"{option}={value}"])
    assert left.value.code == 2
    assert f"argument {option}" in (told := capsys.readouterr().err.splitlines()[-1]) and said in told
    assert len(told) < 300


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("animate", *DRAWN, *QUICK, "-o", "clip.avi"),
            "no way to write a file named clip.avi; choose one of h264",
        ),
        (("pose", inputs.DRIVING, "-o", "poses.txt"), "A pose file ends in .npz or .json; got poses.txt"),
        (("pose", inputs.DRIVING, "--preview", "p.txt"), "no way to write a file named p.txt"),
        (("align", inputs.DRIVING, inputs.REFERENCE, "-o", "a.txt"), "A pose file ends in .npz or .json"),
        (
            ("align", inputs.DRIVING, inputs.REFERENCE, "-o", "a.npz", "--report", "a.foo"),
            "should end in .png",
        ),
        (
            ("animate", *DRAWN, *QUICK, "--dry-run", "--resolution", "48x50"),
            "multiples of 16; 48 x 50 was given",
        ),
        (
            ("animate", *DRAWN, *QUICK, "--width", "1000000"),
            "sides of 16384 pixels at most; 1000000 x 48 was",
        ),
        (("animate", *DRAWN, *QUICK, "--dry-run", "--height", "1000000"), "sides of 16384 pixels at most"),
        (("compare", *DRAWN, *QUICK, "--width", "1000000"), "sides of 16384 pixels at most"),
        (
            ("align", inputs.DRIVING, inputs.REFERENCE, "-o", "a.npz", "--report", "a.mpg"),
            "a.mpg should end in .png",
        ),
        (
            ("align", inputs.DRIVING, inputs.REFERENCE, "-o", "a.npz", "--report", "a.hdf"),
            "a.hdf should end in .png",
        ),
        (("pose", inputs.DRIVING, "--person", "9" * 5000), "There is no person '99999"),
    ],
)
def test_a_name_or_size_that_cannot_be_is_told_before_anything_is_looked_at(
    refused, monkeypatch, words, said
) -> None:
    def never(*args: object, **options: object) -> None:
        raise AssertionError("a video was opened")

    monkeypatch.setattr("xdyna_unianimate.video_core.video.open_video", never)
    assert said in refused(*words)


def test_a_number_above_the_line_is_no_person(refused) -> None:
    words = ("pose", inputs.DRIVING, "--detector", "demo", "--no-cache", "-o", "p.npz")
    assert "Nobody can be chosen by '²'; take largest" in refused(*words, "--person", "²")


@pytest.mark.parametrize("second", ["q.json", "./q.json", "folder/../q.json"])
def test_two_results_do_not_go_to_one_file(refused, second: str) -> None:
    """The pose file was lost without a word."""
    Path("folder").mkdir(exist_ok=True)
    words = ("pose", inputs.DRIVING_POSES, "-o", "q.json", "--openpose", second, "--overwrite")
    assert "files of their own" in refused(*words, code=2)
    assert not Path("q.json").exists()


def test_a_preview_larger_than_any_video_is_one_sentence(refused) -> None:
    save_poses(replace(inputs.driving_poses()[:2], canvas=(9_999_999, 1)), "wide.npz")
    said = refused("pose", "wide.npz", "-o", "p.npz", "--preview", "wide.mp4")
    assert said.startswith("wide.mp4 cannot be written: its pictures would be 9999999 x 1 pixels")


STOPPED = """
import importlib, runpy, sys
from xdyna_unianimate import __path__
real = importlib.import_module
def stopped(name, *words):
    if name.endswith("app.cli"):
        raise KeyboardInterrupt
    return real(name, *words)
importlib.import_module = stopped
runpy.run_module("xdyna_unianimate", run_name="__main__", alter_sys=True)
"""


def test_a_stop_before_the_command_line_is_there_is_no_traceback() -> None:
    done = subprocess.run([sys.executable, "-c", STOPPED], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, "Stopped before anything was begun.\n")


def test_half_a_source_is_wrong_usage(refused) -> None:
    assert "both --reference and --driving" in refused("animate", "--reference", "a.png", code=2)


@pytest.mark.parametrize("words", [("--reference", "a.png"), ("-o", "one.mp4")])
def test_a_list_names_its_own_sources(refused, words: tuple[str, str]) -> None:
    assert "A list of jobs names its own" in refused("animate", "--jobs", "list.json", *words, code=2)


def test_a_setting_of_any_length_is_a_short_sentence(capsys, tmp_path: Path) -> None:
    entry = {"reference": str(inputs.REFERENCE), "driving": str(inputs.DRIVING), "mode": "x" * 10**6}
    (tmp_path / "list.json").write_text(json.dumps([entry]))
    assert main(["animate", "--jobs", str(tmp_path / "list.json"), "-o", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert "Job 1 of 1 failed: A job's settings are the options of animate" in said and len(said) < 600


# ---- demo ----------------------------------------------------------------------------------------------


def test_demo_runs_both_systems_and_overwrites_nothing(run) -> None:
    first = run("demo", "--steps", 2, "--max-frames", 3)
    for system in ("unianimate", "xdyna"):
        video = open_video(first[system]["video"])
        assert video.size == RESOLUTION
        assert float(video.fps) == inputs.FPS
        assert len(list(video.frames())) == first[system]["frames"] == 3
        height, width = read_picture(first[system]["sheet"]).shape[:2]
        assert height > 3 * 256 and width > 4 * 170, "reference, skeleton, result, truth"
    assert "untrained" in first["note"]
    for system in ("unianimate", "xdyna"):
        assert set(first[system]["against the truth"]) == {"result", "copy of the reference"}
    again = run("demo", "--steps", 2, "--max-frames", 3, "--model", "xdyna")
    assert Path(again["xdyna"]["video"]).name == "demo_xdyna_2.mp4"
    assert np.array_equal(frames_of(first["xdyna"]["video"]), frames_of(again["xdyna"]["video"]))


def test_demo_takes_any_driving_file(run, tmp_path: Path) -> None:
    poses = tmp_path / "mine.json"
    save_poses(inputs.driving_poses()[4:6], poses)
    result = run("demo", "--driving", poses, "--steps", 1, "--model", "unianimate", "-o", "mine.mp4")
    assert (result["unianimate"]["video"], result["unianimate"]["frames"]) == ("mine.mp4", 2)


# ---- pose and align ------------------------------------------------------------------------------------


def test_pose_writes_file_preview_and_openpose(run) -> None:
    outputs = ("-o", "p.npz", "--preview", "p.mp4", "--openpose", "openpose")
    found = run("pose", inputs.DRIVING, "--detector", "demo", *outputs)
    assert (found["frames"], found["frames_with_person"]) == (inputs.FRAMES, inputs.FRAMES)
    assert np.allclose(load_poses("p.npz").points, inputs.driving_poses().points)
    assert len(list(Path("openpose").iterdir())) == inputs.FRAMES
    assert len(frames_of("p.mp4")) == inputs.FRAMES


def test_pose_takes_every_nth_frame_at_the_speed_that_is_left(run) -> None:
    run("pose", inputs.DRIVING, "--detector", "demo", "--interval", 5, "--max-frames", 3, "-o", "p.npz")
    poses = load_poses("p.npz")
    assert np.allclose(poses.points, inputs.driving_poses().points[:15:5])
    assert poses.fps == inputs.FPS / 5


def test_pose_looks_at_a_video_once(run, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("pose", inputs.DRIVING, "--detector", "demo", "--max-frames", 2, "--overwrite", "-o", "p.npz")
    run(*words)
    monkeypatch.setattr("xdyna_unianimate.app.poses._followed", None)
    run(*words)
    with pytest.raises(TypeError):
        main([*map(str, words), "--no-cache"])


@pytest.mark.parametrize(
    ("option", "name"), [("-o", "poses.npz"), ("--preview", "seen.mp4"), ("--openpose", "poses.json")]
)
def test_pose_overwrites_nothing_unasked(refused, option: str, name: str) -> None:
    existing = Path(name)
    existing.write_text("precious")
    assert "exists already" in refused("pose", inputs.DRIVING, "--detector", "demo", option, existing)
    assert existing.read_text() == "precious"


def test_align_says_what_it_measured(run, capsys) -> None:
    words = ("align", inputs.DRIVING, inputs.REFERENCE, "--detector", "demo", "--report", "report.png")
    found = run(*words, "-o", "aligned.npz")
    assert {"x", "y", "left shin"} <= {ratio["name"] for ratio in found["report"]["ratios"]}
    assert load_poses("aligned.npz").canvas == inputs.CANVAS
    assert read_picture("report.png").shape[0] == 640
    assert main([*map(str, words), "-o", "again.npz", "--overwrite"]) == 0
    assert "measured in frame 0" in capsys.readouterr().out


def test_align_takes_pose_files(run) -> None:
    files = (inputs.DRIVING_POSES, inputs.REFERENCE_POSE)
    run("align", *files, "-o", "a.json", "--align", "original", "--detector", "dwpose")
    assert len(load_poses("a.json")) == inputs.FRAMES


# ---- animate -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("system", ["unianimate", "xdyna"])
def test_animate_by_either_system(run, system: str) -> None:
    result = run("animate", *DRAWN, *QUICK, "--model", system)
    assert Path(result["video"]) == Path("outputs", f"reference_driving_{system}.mp4")
    assert open_video(result["video"]).size == (32, 48)
    assert "alignment: robust" in result["report"]


@pytest.fixture(scope="module")
def plain() -> dict[str, list[np.ndarray]]:
    """Frames of each system without any further option."""
    return {}


@pytest.mark.parametrize(
    ("system", "words"),
    [
        ("unianimate", ("--seed", "1")),
        ("unianimate", ("--guidance", "1")),
        ("unianimate", ("--noise-prior", "999")),
        ("unianimate", ("--first-frame",)),
        ("unianimate", ("--mode", "continuation", "--context-size", "2")),
        ("unianimate", ("--context-size", "2", "--context-overlap", "1")),
        ("unianimate", ("--noise", "original")),
        ("unianimate", ("--align", "off")),
        ("unianimate", ("--no-feet",)),
        ("unianimate", ("--canvas", "video")),
        ("unianimate", ("--interval", "3")),
        ("xdyna", ("--seed", "1")),
        ("xdyna", ("--cfg", "0.5")),
        ("xdyna", ("--prompt", "a dancer")),
        ("xdyna", ("--negative-prompt", "blurred")),
        ("xdyna", ("--face",)),
        ("xdyna", ("--head",)),
        ("xdyna", ("--stride", "3")),
        ("xdyna", ("--context-size", "2", "--context-overlap", "1", "--no-loop")),
        *(("xdyna", (f"--{name}-strength", "0")) for name in ("pose", "reference", "image")),
    ],
)
def test_every_option_reaches_the_result(
    run, lively, plain: dict[str, list], system: str, words: tuple[str, ...]
) -> None:
    animate = ("animate", *DRAWN, *QUICK, "--steps", 1, "--model", system)
    if system not in plain:
        plain[system] = frames_of(run(*animate)["video"])
    other = run(*animate, *words, "-o", "other.mp4")
    assert not np.array_equal(plain[system], frames_of(other["video"]))


def test_width_and_height_stand_for_the_resolution(run) -> None:
    words = ("animate", *DRAWN, *QUICK, "--width", 48, "--height", 2 * MULTIPLE)
    assert open_video(run(*words)["video"]).size == (48, 32)


def test_embedded_weights_have_a_resolution_of_their_own(run) -> None:
    words = [word for word in QUICK if word not in ("--resolution", SIZE)]
    assert open_video(run("animate", *DRAWN, *words, "--max-frames", 2)["video"]).size == RESOLUTION


def test_fps_codec_and_strip(run) -> None:
    result = run("animate", *DRAWN, *QUICK, "--fps", 30, "--codec", "gif", "--strip")
    video = open_video(result["video"])
    assert Path(result["video"]).suffix == ".gif"
    assert video.size == (3 * 32, 48)
    folder = run("animate", *DRAWN, *QUICK, "--codec", "png", "-o", "pictures")
    assert len(list(Path(folder["video"]).iterdir())) == 3


def test_one_frame_reposes_a_picture(run) -> None:
    words = ("animate", *DRAWN, *QUICK, "--max-frames", 1, "-o", "posed.mp4")
    assert run(*words)["video"] == "posed.png"
    assert read_picture("posed.png").shape == (48, 32, 3)


def test_the_sound_of_the_driving_video_is_kept(run, tmp_path: Path) -> None:
    from xdyna_unianimate.video_core.video import Audio

    tone = Audio(np.sin(np.arange(44100) / 20).astype(np.float32)[None] / 2, 44100)
    frames = open_video(inputs.DRIVING).frames(max_frames=6)
    driving = tmp_path / "sung.mp4"
    write_video(frames, driving, inputs.FPS, audio=tone)
    words = ("animate", "--reference", inputs.REFERENCE, "--driving", driving, *QUICK)
    assert open_video(run(*words)["video"]).audio() is not None
    assert open_video(run(*words, "--interval", 2)["video"]).audio() is not None
    assert open_video(run(*words, "--fps", 5)["video"]).audio() is None


def test_ready_made_skeletons_are_used_as_they_are(run, tmp_path: Path) -> None:
    """UniAnimate's own folders, the reference's skeleton among the pictures; X-Dyna's own pose videos."""
    from PIL import Image

    folder = tmp_path / "poses"
    folder.mkdir()
    for number, picture in enumerate(draw(inputs.driving_poses()[:3], UNIANIMATE)):
        Image.fromarray(picture).save(folder / f"{number}.png")
    Image.fromarray(draw(inputs.reference_pose(), UNIANIMATE)[0]).save(folder / "ref_pose.jpg")
    words = ("--reference", inputs.REFERENCE, *QUICK, "--max-frames", 9)
    result = run("animate", *words, "--driving", folder)
    assert (result["frames"], result["report"]) == (3, "")

    video = tmp_path / "pose.mp4"
    write_video(draw(inputs.driving_poses()[:4]), video, 8)
    words = ("animate", "--model", "xdyna", *words, "--driving", video, "--drawn")
    assert run(*words)["frames"] == 4
    assert run(*words, "--face", "--face-video", inputs.DRIVING)["frames"] == 4


def test_openpose_files_drive_too(run) -> None:
    save_openpose(inputs.driving_poses()[:2], Path("openpose"))
    words = ("--reference", inputs.REFERENCE, "--driving", "openpose", "--align", "robust")
    assert run("animate", *words, *QUICK)["frames"] == 2


def test_a_lost_person_is_told_and_costs_nothing(run, tmp_path: Path, caplog) -> None:
    empty = np.full((inputs.CANVAS[1], inputs.CANVAS[0], 3), 128, np.uint8)
    frames = [*open_video(inputs.DRIVING).frames(max_frames=2), empty, empty]
    write_video(iter(frames), tmp_path / "lost.mp4", 8)
    words = ("--reference", inputs.REFERENCE, "--driving", tmp_path / "lost.mp4")
    assert run("animate", *words, *QUICK, "--max-frames", 4)["frames"] == 4
    assert "found in 2 of 4 frames" in caplog.text


def test_settings_travel_in_the_file(run) -> None:
    import av

    with av.open(run("animate", *DRAWN, *QUICK, "--seed", 5)["video"]) as video:
        notes = json.loads(video.metadata["comment"])
    assert (notes["system"], notes["seed"], notes["steps"]) == ("unianimate", 5, 2)


# ---- compare -------------------------------------------------------------------------------------------


def test_compare_writes_a_labelled_grid_and_each_clip(run) -> None:
    result = run("compare", *DRAWN, *QUICK, "--face", "-o", "grid.mp4")
    assert open_video("grid.mp4").size[0] > 4 * 32
    assert open_video("grid.mp4").size[1] == 48 + 22 + 4
    assert len(frames_of("grid.mp4")) == result["frames"] == 3
    for system in ("unianimate", "xdyna"):
        assert open_video(f"grid_{system}.mp4").size == (32, 48)
    assert read_picture(result["sheet"]).shape[1] > 4 * 100


# ---- job lists -----------------------------------------------------------------------------------------


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files of the animations that were really made."""
    files: list[Path] = []
    write = runs.Session.write

    def counted(session, request, prepared, target, truth=None):
        result = write(session, request, prepared, target, truth)
        files.append(result.video)
        return result

    monkeypatch.setattr(runs.Session, "write", counted)
    return files


def job_list(*entries: object, name: str = "list.json") -> Path:
    file = Path(name)
    file.write_text(json.dumps(entries), encoding="utf-8")
    return file


def drawn_job(**settings: object) -> dict[str, object]:
    return {"reference": str(inputs.REFERENCE), "driving": str(inputs.DRIVING), **settings}


def test_a_list_goes_on_where_it_stopped(run, made: list[Path]) -> None:
    jobs = job_list(drawn_job(seed=1), drawn_job(seed=2, model="xdyna", face=True), drawn_job(max_frames=1))
    words = ("animate", "--jobs", jobs, *QUICK)
    first = run(*words)
    assert len(first["done"]) == len(made) == 3
    assert len(set(first["done"])) == 3
    assert run(*words)["done"] == first["done"]
    assert len(made) == 3, "finished jobs are passed over"
    Path(first["done"][1]).unlink()
    run(*words)
    assert len(made) == 4, "a result that is gone is made again"
    run(*words[:-4], "--resolution", "48x48", "--max-frames", 3)
    assert len(made) == 7, "other settings make other results"
    assert len(set(made[:3] + made[4:])) == 6, "beside the earlier ones"


def test_networks_are_loaded_once_for_a_list(run, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []
    load = runs.networks.load
    monkeypatch.setattr(runs.networks, "load", lambda *a, **k: loaded.append(a[0]) or load(*a, **k))
    run("animate", "--jobs", job_list(*(drawn_job(seed=seed) for seed in range(3))), *QUICK)
    assert loaded == ["unianimate"]


def test_a_failed_job_does_not_stop_the_others(refused, made: list[Path], capsys) -> None:
    jobs = job_list(
        drawn_job(driving="nowhere.mp4"), drawn_job(steps="many"), drawn_job(colour="red"), drawn_job()
    )
    assert "3 of 4 jobs failed" in refused("animate", "--jobs", jobs, *QUICK)
    assert len(made) == 1


def test_a_stopped_list_keeps_what_was_finished(run, made: list[Path], monkeypatch, capsys) -> None:
    words = ("animate", "--jobs", job_list(drawn_job(seed=1), drawn_job(seed=2)), *QUICK)
    prepare = runs.Session.prepare

    def stopped(session, request):
        if request.sampling.seed == 2:
            raise KeyboardInterrupt
        return prepare(session, request)

    with monkeypatch.context() as patched:
        patched.setattr(runs.Session, "prepare", stopped)
        assert main([str(word) for word in words]) == 130
    capsys.readouterr()
    assert len(made) == 1
    assert len(run(*words)["done"]) == 2
    assert len(made) == 2


# ---- convert and doctor --------------------------------------------------------------------------------


def test_convert(run, refused) -> None:
    from safetensors.torch import load_file

    weights = {"a": torch.randn(3, 2), "b": torch.arange(4)}
    torch.save({"state_dict": weights}, "old.pth")
    assert run("convert", "old.pth") == {
        "file": "old.safetensors", "tensors": 2, "bytes": Path("old.safetensors").stat().st_size,
    }  # fmt: skip
    assert torch.equal(load_file("old.safetensors")["a"], weights["a"])
    assert "exists already" in refused("convert", "old.pth")
    run("convert", "old.pth", "half.safetensors", "--dtype", "fp16")
    half = load_file("half.safetensors")
    assert (half["a"].dtype, half["b"].dtype) == (torch.float16, torch.int64)
    torch.save({"a": torch.full((2,), 1e6)}, "large.pth")
    assert "take bf16 or fp32" in refused("convert", "large.pth", "--dtype", "fp16")
    assert not Path("large.safetensors").exists()


def test_doctor_finds_files_and_names_what_is_wrong(run, capsys) -> None:
    models = Path("models", "DWPose")
    models.mkdir(parents=True)
    (models / "YOLOX_L.onnx").write_bytes(b"too short")
    found = run("doctor", "--models", "models", "--hashes")
    row = next(file for file in found["files"] if file["name"] == "yolox_l.onnx")
    assert "has 9 bytes instead of 216746733" in row["problem"]
    assert any("216746733" in advice for advice in found["advice"])
    assert [system["ready"] for system in found["systems"]] == [False, False]
    assert main(["doctor", "--models", "models"]) == 0
    said = capsys.readouterr().out
    assert "licence: research and non-commercial use only" in said
    assert f"torch            {torch.__version__}" in said


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device"), "No space left on device."),
        (OSError(28, "No space left on device", "a.png"), "a.png: No space left on device."),
        (OSError("the answer ended after 3 of 5 bytes"), "the answer ended after 3 of 5 bytes"),
        (MemoryError(), "Memory ran out."),
    ],
)
def test_an_error_of_the_system_is_told_without_its_number(error: Exception, said: str) -> None:
    assert cli.sentence(error).startswith(said) and "Errno" not in cli.sentence(error)
