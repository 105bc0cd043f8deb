"""Real disks that are full: small file systems in memory, of every size up to what a run needs."""

from __future__ import annotations

import json
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from xdyna_unianimate.demo import inputs

from ..app.conftest import own_place, small_weights  # noqa: F401
from ..app.test_resume import words
from . import processes
from .tally import Tally, not_a_sentence

FAMILY = "faults"

SIZES = range(4, 600, 32)
LARGE = 64 << 10
"""kB of disks, and of one on which everything has its place."""


@cache
def mounting() -> tuple[tuple[str, ...], str]:
    """The words before a command that let it mount disks that nobody else sees; why there are none."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return (), "unshare is not installed"
    before = (unshare, "-rm")
    tried = subprocess.run([*before, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, text=True)
    return (before, "") if tried.returncode == 0 else ((), f"nothing can be mounted: {tried.stderr.strip()}")


SCRIPT = """
import contextlib, hashlib, io, logging, re, shutil, subprocess, torch
from pathlib import Path
from xdyna_unianimate.app.cli import main
from xdyna_unianimate.demo import checkpoints
from xdyna_unianimate.video_core import storage

torch.set_num_threads(1)
given = json.loads(sys.argv[1])
disk = Path(given["disk"])
for name, file in given["weights"].items():
    setattr(checkpoints, name, Path(file))
storage.LONG_CLIP = 3  # so that clips of 9 frames, too, have their tensors on disk

def mount(*words):
    subprocess.run(["mount", "-t", "tmpfs", *words, "none", str(disk)], check=True)

def run(words):
    said = io.StringIO()
    logging.getLogger().handlers = [logging.StreamHandler(said)]
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            code = main(words)
        except Exception as error:
            code = repr(error)
    lines = re.split("[\\r\\n]+", said.getvalue())
    return code, [line for line in lines if line.strip() and "it/s]" not in line and "s/it]" not in line]

def found(folder):
    files = {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    return {name: hashlib.sha256(content).hexdigest()[:8] for name, content in files.items()}

for size in given["sizes"]:
    shutil.rmtree(given["results"], ignore_errors=True)  # of the size before, where they lie elsewhere
    mount("-o", f"size={size}k")
    (disk / "earlier.bin").write_bytes(bytes(3000))
    code, said = run(given["words"])
    left = found(disk)
    mount("-o", f"remount,size={given['large']}k")
    again, complaint = run(given["words"])
    made = found(Path(given["results"]))
    report(size=size, code=code, said=said, left=left, again=again, complaint=complaint, made=made)
    subprocess.run(["umount", str(disk)], check=True)
"""


def fill(tally: Tally, case: str, folder: Path, **given: Any) -> None:
    """Run a command on disks of many sizes.

    One sentence, or the whole result; what was there stays; with more space the same command ends the same.
    given: what SCRIPT is told; its ``disk`` is a folder, ``cache`` the place of all state, ``exact`` whether two runs
    end in equal bytes.
    """
    before, reason = mounting()
    if reason:
        pytest.skip(reason)
    given["disk"].mkdir()
    sizes = [LARGE, *SIZES]
    done = processes.run_python(
        SCRIPT,
        json.dumps({"sizes": sizes, "large": LARGE, "weights": {}, **given}, default=str),
        before=before,
        environment={"XDUA_CACHE": str(given["cache"])},
        folder=folder,
    )
    whole = done.reports[0] if done.reports else {}
    assert whole and whole["code"] == 0 and not whole["said"] and whole["made"], done.text[-2000:]
    for one in done.reports[1:]:
        what = f"{case}, {one['size']} kB"
        names = [name.rpartition("/")[2] for name in (*one["left"], *one["made"])]
        partly = [name for name in names if name.startswith(".") or ".part" in name]
        if one["left"].get("earlier.bin") != whole["left"]["earlier.bin"] or partly:
            tally.lost(f"{what}: {one['left']}")
        elif one["again"] != 0 or one["complaint"]:
            tally.lost(f"{what}, with more space: {one['again']}, {one['complaint']}")
        elif set(one["made"]) != set(whole["made"]) or (given["exact"] and one["made"] != whole["made"]):
            tally.lost(f"{what}, with more space: {one['made']}")
        elif [line for line in one["said"] if not_a_sentence(line)]:
            tally.lost(f"{what}: {one['said']}")
        elif one["code"] == 0:
            tally.worked()
        elif one["code"] == 1:
            tally.refused(one["said"][-1], names=str(given["disk"]))
        else:
            tally.lost(f"{what}: {one['code']}, {one['said']}")
    if len(done.reports) != len(sizes):
        tally.lost(f"{case}: the process ended with {done.code}: {done.text[-1000:]}")


@pytest.mark.full
@pytest.mark.parametrize("codec", ["png", "h264"])
@pytest.mark.parametrize("lies", ["all", "results", "cache"])
@pytest.mark.parametrize("how", ["unianimate", "xdyna"])
def test_animations_on_full_disks(tally, own_place, small_weights, how, lies, codec):  # noqa: F811
    disk = own_place / "disk"
    results = (own_place if lies == "cache" else disk) / "results"
    target = results / ("clip" if codec == "png" else "clip.mp4")
    fill(
        tally, f"{how}, {lies}, {codec}", own_place, disk=disk, results=results, weights=small_weights,
        cache=(own_place if lies == "results" else disk) / "cache", exact=codec == "png",
        words=[*words(how, target), "--codec", codec, "--keep-every", "1"],
    )  # fmt: skip


@pytest.mark.full
@pytest.mark.parametrize("command", ["convert", "pose", "align", "evaluate"])
def test_other_commands_on_full_disks(tally, own_place, command):  # noqa: F811
    disk, pickled = own_place / "disk", own_place / "weights.pth"
    torch.save({f"{number}": torch.rand(64, 64) for number in range(20)}, pickled)
    results = disk / "results"
    found = ["--detector", "demo", "--max-frames", "4"]
    more = {
        "convert": [pickled, results / "weights.safetensors", "--overwrite"],
        "pose": [inputs.DRIVING, "-o", results / "poses.npz", "--preview", results / "preview.mp4", "--openpose",
                 results / "poses.json", "--overwrite", *found],
        "align": [inputs.DRIVING_POSES, inputs.REFERENCE_POSE, "-o", results / "aligned.npz", "--report",
                  results / "report.png", "--overwrite"],
        "evaluate": [inputs.DRIVING, "--truth", inputs.DRIVING, "-o", results, *found],
    }  # fmt: skip
    fill(
        tally, command, own_place, disk=disk, results=results, cache=disk / "cache", exact=False,
        words=[command, *map(str, more[command])],
    )  # fmt: skip
