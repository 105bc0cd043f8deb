"""What is wrong is told in one sentence, and nothing that was finished is lost (issue: bad input)."""

from __future__ import annotations

import errno
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from xdyna_unianimate.app import systems
from xdyna_unianimate.app.cli import main
from xdyna_unianimate.demo import inputs
from xdyna_unianimate.pose_align.interchange import save_poses
from xdyna_unianimate.video_core import encode
from xdyna_unianimate.video_core.samplers import NonFiniteError
from xdyna_unianimate.video_core.video import open_video
from xdyna_unianimate.video_core.weights import open_checkpoint

DRAWN = {"--reference": str(inputs.REFERENCE), "--driving": str(inputs.DRIVING), "--output": "result.mp4"}
QUICK = {
    "--weights": "demo", "--detector": "demo", "--steps": "1", "--resolution": "32x48", "--max-frames": "4",
}  # fmt: skip


@pytest.fixture
def animate(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run ``animate`` with some options changed; exit code, and the last line of the standard error."""

    def command(system: str = "unianimate", **changed: object) -> tuple[int, str]:
        options = {**DRAWN, **QUICK, **{f"--{k.replace('_', '-')}": str(v) for k, v in changed.items()}}
        words = [word for pair in options.items() for word in pair]
        code = main(["animate", "--model", system, *words])
        said = capsys.readouterr().err
        assert "Traceback" not in said
        return code, said.strip().splitlines()[-1].split("\r")[-1].strip() if said.strip() else ""

    return command


def nobody(path: Path) -> Path:
    Image.new("RGB", (32, 48), (90, 90, 90)).save(path)
    return path


class Runs:
    """A pickle that wants to run code."""

    def __reduce__(self):
        return print, ("this must not be printed",)


def bad_file(kind: str, folder: Path) -> Path:
    """A file that cannot be used as what it is given for."""
    file = folder / f"{kind.replace(' ', '-')}.mp4"
    match kind:
        case "missing video":
            pass
        case "empty video":
            file.touch()
        case "unreadable video":
            file.write_bytes(b"this is no video at all" * 50)
        case "truncated video":
            file.write_bytes(inputs.DRIVING.read_bytes()[:3000])
        case "no poses":
            file = file.with_suffix(".npz")
            save_poses(inputs.driving_poses()[:0], file)
        case "damaged poses":
            file = file.with_suffix(".json")
            file.write_text("{]")
        case "nobody":
            file = nobody(file.with_suffix(".png"))
        case "empty folder":
            file = folder / "folder"
            file.mkdir()
        case "checkpoint with code":
            file = file.with_suffix(".pth")
            file.write_bytes(pickle.dumps({"a": Runs()}))
        case "truncated checkpoint":
            file = file.with_suffix(".safetensors")
            file.write_bytes(b"\x80\0\0\0\0\0\0\0{")
    return file


@pytest.mark.parametrize(
    ("option", "kind", "said"),
    [
        ("driving", "missing video", "missing-video.mp4.*No such file"),
        ("driving", "empty video", "empty-video.mp4 is empty"),
        ("driving", "unreadable video", "unreadable-video.mp4 cannot be read as a video"),
        ("driving", "truncated video", "truncated-video.mp4 cannot be (read|decoded)"),
        ("driving", "no poses", "no-poses.npz holds no frames of poses"),
        ("driving", "damaged poses", "damaged-poses.json is not a pose file"),
        ("driving", "nobody", "Nobody was found in any of the 1 frame"),
        ("driving", "empty folder", "folder is a folder without pictures"),
        ("reference", "nobody", "No person was found in the reference picture"),
        ("reference", "empty video", "empty-video.mp4 cannot be read as a picture"),
        ("reference", "missing video", "missing-video.mp4.*No such file"),
        ("unet", "checkpoint with code", "was refused"),
        ("unet", "truncated checkpoint", "is not a whole safetensors file"),
    ],
)
def test_bad_files(animate, tmp_path: Path, small_weights, option: str, kind: str, said: str) -> None:
    files: dict[str, object] = {option: bad_file(kind, tmp_path)}
    if option == "unet":
        files |= {"weights": "files", "vae": small_weights["VAE"], "clip": small_weights["CLIP"]}
    code, line = animate(**files)
    assert code == 1
    assert line.startswith("Error: ")
    assert re.search(said, line), line
    assert not Path("result.mp4").exists()


@pytest.mark.parametrize(
    ("system", "changed", "said"),
    [
        ("unianimate", {"resolution": "40x50"}, "multiples of 16; 40 x 50 was given. Take 32 x 48, say"),
        ("xdyna", {"resolution": "35x48"}, "multiples of 8; 35 x 48 was given. Take 32 x 48, say"),
        ("unianimate", {"noise_prior": 1000}, "between 0 and 999"),
        ("unianimate", {"guidance": -1}, "Guidance is a number from 0 up"),
        ("unianimate", {"context_size": 2, "context_overlap": 2, "mode": "windows"}, "cannot overlap by 2"),
        ("unianimate", {"interval": 0}, "count from 1 up"),
        ("unianimate", {"device": "quantum"}, "'quantum' cannot be used here"),
        ("unianimate", {"precision": "fp4"}, "no precision"),
        ("xdyna", {"pose_strength": -1}, "strength is 0"),
        ("unianimate", {"person": "tallest"}, "chosen by 'tallest'"),
        ("unianimate", {"reference_person": 3}, "There is no person 3"),
    ],
)
def test_bad_options(animate, system: str, changed: dict[str, object], said: str) -> None:
    code, line = animate(system, **changed)
    assert (code, line.startswith("Error: ")) == (1, True)
    assert said in line, line


def test_an_existing_file_is_refused_before_anything_is_done(animate, monkeypatch) -> None:
    Path("result.mp4").write_text("precious")
    monkeypatch.setattr("xdyna_unianimate.app.runs.prepare", None)
    code, line = animate()
    assert (code, Path("result.mp4").read_text()) == (1, "precious")
    assert "exists already" in line


# ---- while it runs -------------------------------------------------------------------------------------


def failing_after(count: int, error: BaseException) -> Callable:
    """In place of ``to_bytes``: the frames, and then the error."""

    def chunks(tensors):
        frames = (np.full((48, 32, 3), 50 * i, np.uint8) for i in range(count))
        yield from frames
        raise error

    return chunks


@pytest.mark.parametrize("system", ["unianimate", "xdyna"])
def test_ctrl_c_keeps_the_finished_frames(animate, monkeypatch, caplog, system: str) -> None:
    monkeypatch.setattr(systems, "_as_bytes", failing_after(3, KeyboardInterrupt()))
    code, line = animate(system)
    assert (code, line) == (130, "Stopped; what was finished is kept.")
    assert len(list(open_video("result.partial.mp4").frames())) == 3
    assert "3 finished frames are kept in result.partial.mp4" in caplog.text
    assert not Path("result.mp4").exists()


def test_nan_keeps_frames_and_latents(animate, monkeypatch) -> None:
    latents = torch.randn(1, 4, 2, 6, 4)
    error = NonFiniteError("The network gave NaN or infinity in step 3.", latents, 2)
    monkeypatch.setattr(systems, "_as_bytes", failing_after(2, error))
    code, line = animate()
    assert code == 1
    assert "NaN or infinity" in line
    assert "after 2 steps, are in result.latents.safetensors" in line
    assert torch.equal(open_checkpoint("result.latents.safetensors")["latents"], latents)
    assert len(list(open_video("result.partial.mp4").frames())) == 2


def test_nan_in_the_network_itself(animate, monkeypatch) -> None:
    from xdyna_unianimate.unianimate_core.unet import UniAnimateUNet

    denoise = UniAnimateUNet.denoise
    monkeypatch.setattr(UniAnimateUNet, "denoise", lambda *a, **k: denoise(*a, **k) * float("nan"))
    code, line = animate()
    assert code == 1
    assert "Error: The network gave NaN or infinity in step 1" in line


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "result.mp4 cannot be written: the disk is full"),
        (OSError(errno.EIO, "Input/output error"), "result.mp4 cannot be written: Input/output error"),
    ],
)
def test_a_full_disk_while_encoding(animate, monkeypatch, error: OSError, said: str) -> None:
    def write(sink, frame) -> None:
        raise encode._Failed(encode._reason(error)) from error

    monkeypatch.setattr(encode._Movie, "write", write)
    code, line = animate()
    assert code == 1
    assert said in line
    assert not list(Path.cwd().glob("result*"))


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate")])
def test_memory_that_runs_out_is_told_with_what_to_lower(animate, monkeypatch, error: BaseException) -> None:
    monkeypatch.setattr(systems, "_as_bytes", failing_after(0, error))
    code, line = animate()
    assert code == 1
    assert "Memory ran out. Take a smaller --resolution" in line


def test_an_error_of_the_program_is_not_hidden(animate, monkeypatch) -> None:
    monkeypatch.setattr(systems, "_as_bytes", failing_after(1, RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        animate()


def test_a_missing_library_is_named(animate, monkeypatch) -> None:
    def lacking(*_: object) -> None:
        raise ImportError("MediaPipe needs mediapipe, not installed here: pip install mediapipe.")

    monkeypatch.setattr("xdyna_unianimate.app.poses.open_detector", lacking)
    code, line = animate(detector="mediapipe")
    assert (code, line) == (1, "Error: MediaPipe needs mediapipe, not installed here: pip install mediapipe.")
