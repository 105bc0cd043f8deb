"""Hostile checkpoints through every loader: nothing runs, little memory, one sentence each."""

from __future__ import annotations

import json

import pytest

from . import checkpoint_zoo, processes
from .tally import Tally

FAMILY = "checkpoints"

FACTOR = 1.3
"""How many times its honest size a file may take of memory, at the peak."""
BASE = 32e6
"""Bytes besides: a network's modules without weights, and the names of a header or of a pickle's objects."""

READER = """
import faulthandler, logging, os, pathlib, time, traceback, warnings
import torch, diffusers, transformers, safetensors.torch
from xdyna_unianimate.app.convert import convert
from xdyna_unianimate.pose_align.dwpose import DWPose
from xdyna_unianimate.pose_align.dwpose_files import ModelFiles
from xdyna_unianimate.unianimate_core import load as unianimate
from xdyna_unianimate.video_core.clip import load_clip_text, load_clip_vision
from xdyna_unianimate.video_core.vae import load_vae
from xdyna_unianimate.video_core.weights import open_checkpoint
from xdyna_unianimate.xdyna_core import load as xdyna
warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)
manifest, demo = sys.argv[1:3]
demo = pathlib.Path(demo)

def everything(path):
    checkpoint = open_checkpoint(path)
    for name in checkpoint:
        checkpoint[name].clone()
        checkpoint.release()

def converted(path):
    target = path.with_name("out.safetensors")
    try:
        convert(path, target, "fp16", overwrite=True)
    finally:
        assert not [p for p in path.parent.iterdir() if "partial" in p.name]
        target.unlink(missing_ok=True)

LOADERS = {
    "open": everything,
    "convert": converted,
    "unianimate": unianimate.load_unet,
    "x-dyna unet": lambda path: xdyna.load_unet([path]),
    "x-dyna base": lambda path: xdyna.load_unet([path, demo / "xdyna.safetensors"]),
    "x-dyna motion": lambda path: xdyna.load_unet([demo / "xdyna.safetensors", path]),
    "pose control": lambda path: xdyna.load_controlnet(path, 3),
    "face control": lambda path: xdyna.load_controlnet(path, 6),
    "resampler": xdyna.load_resampler,
    "vae": load_vae,
    "clip text": load_clip_text,
    "clip vision": load_clip_vision,
    "dwpose": lambda path: DWPose.open(ModelFiles(path, path), "cpu"),
}
events, watching = [], False
WATCHED = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "subprocess.Popen",
           "pty.spawn", "socket.connect", "urllib.Request", "webbrowser.open", "ctypes.dlopen", "exec", "compile")

def watch(event, arguments):
    if watching and event in WATCHED:
        # Python compiles nothing here but what an import of its own libraries needs.
        place = str(arguments[-1] if event == "compile" else getattr(arguments[0], "co_filename", ""))
        if event not in ("exec", "compile") or not (place.endswith(".py") or place.startswith("<frozen")
                                                    or place in ("<string>", "<unknown>") and STILL[0]):
            events.append(f"{event} {arguments!r:.200}")

# What a first use of torch, diffusers and transformers generates for itself (dataclasses, named tuples).
STILL = [True]
import torch.serialization
torch.save({"a": torch.ones(1)}, demo / "own.pth")
open_checkpoint(demo / "own.pth")
for name in [demo / "clip.safetensors", demo / "xdyna_pose.safetensors"]:
    for loader in LOADERS.values():
        try:
            loader(name)
        except ValueError:
            pass
        for left in name.parent.glob("out.safetensors"):
            left.unlink()
STILL[0] = False
sys.addaudithook(watch)
for line in pathlib.Path(manifest).read_text(encoding="utf-8").splitlines():
    number, way, path = json.loads(line)
    faulthandler.dump_traceback_later(120, exit=True)
    before = forget_peak() if os.path.exists("/proc/self/clear_refs") else None
    said, crash, events[:], start, watching = "", "", [], time.perf_counter(), True
    try:
        loaded = LOADERS[way](pathlib.Path(path))
    except (ValueError, OSError) as error:
        said = str(error)
    except BaseException:
        crash = traceback.format_exc(limit=-6)
    watching, loaded = False, None
    report(number=number, said=said, crash=crash, events=list(events), seconds=time.perf_counter() - start,
           peak=peak_since(before) if before else 0)
faulthandler.cancel_dump_traceback_later()
"""

LOADERS = (
    "open", "convert", "unianimate", "x-dyna unet", "x-dyna base", "x-dyna motion", "pose control", "face control",
    "resampler", "vae", "clip text", "clip vision", "dwpose",
)  # fmt: skip


def chosen(cases: list[checkpoint_zoo.Hostile], everything: bool) -> list[tuple[str, checkpoint_zoo.Hostile]]:
    """Every case by every loader; in the short version every sixth by one of them, in turn, and the pinned ones.

    What is pinned is opened and no more: a guard that is gone shows there.
    """
    if everything:
        return [(way, case) for case in cases for way in LOADERS]
    pinned = [("open", case) for case in cases if case.pinned]
    rest = [case for case in cases if not case.pinned][::6]
    turns = [(LOADERS[number % len(LOADERS)], case) for number, case in enumerate(rest)]
    return pinned + [("dwpose" if case.path.suffix == ".onnx" else way, case) for way, case in turns]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config):
    """The cases, the canary, and what a process that loaded them all reported and was seen to do."""
    from .summary import is_full

    everything = is_full(pytestconfig)
    folder = tmp_path_factory.mktemp("zoo")
    canary = folder / "canary"
    ways = chosen(checkpoint_zoo.zoo(folder, canary, *((30, 100) if everything else (4, 1))), everything)
    manifest = folder / "manifest.jsonl"
    lines = [json.dumps([number, way, str(case.path)]) for number, (way, case) in enumerate(ways)]
    manifest.write_text("\n".join(lines), encoding="utf-8")
    demo = folder / "demo"
    demo.mkdir()
    for file in checkpoint_zoo.demo_files():
        (demo / file.name).write_bytes(file.read_bytes())
    trace = () if processes.why_no_trace() else ("execve", "connect", "sendto", "sendmmsg")
    arguments = (str(manifest), str(demo))
    return ways, canary, processes.run_python(READER, *arguments, trace=trace, folder=folder, timeout=3000)


def test_one_sentence_little_memory_and_no_event(run, tally: Tally) -> None:
    ways, _, finished = run
    reports = {report["number"]: report for report in finished.reports}
    for number, (way, case) in enumerate(ways):
        what = f"{case.name} by {way} ({case.path})"
        report = reports.get(number)
        if report is None:
            tally.lost(f"{what}: the process ended with {finished.code}: {finished.text[-1500:]}")
            break
        if report["crash"]:
            tally.lost(f"{what}: {report['crash']}")
        elif report["events"]:
            tally.lost(f"{what}: {report['events'][:3]}")
        elif report["peak"] > FACTOR * case.path.stat().st_size + BASE:
            tally.lost(f"{what}: took {report['peak'] / 1e6:.0f} MB")
        elif report["said"]:
            tally.refused(report["said"], names=str(case.path))
        elif case.tag != checkpoint_zoo.OPENS:
            tally.lost(f"{what}: was taken")
        else:
            tally.worked()
    if not processes.can_measure():
        pytest.skip("everything but the memory was looked at: its peak is read from Linux's /proc")


FORKING = """
import logging, os, pathlib, torch, warnings
from xdyna_unianimate.video_core.weights import open_checkpoint
warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)

# What a first use of each kind imports.
torch.save({"a": torch.ones(1)}, "own.pth")
len(open_checkpoint("own.pth"))
len(open_checkpoint(sys.argv[2]))
for line in pathlib.Path(sys.argv[1]).read_text(encoding="utf-8").splitlines():
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        continue
    try:
        before = forget_peak()
        try:
            len(open_checkpoint(line))
        except ValueError:
            pass
        report(path=line, peak=peak_since(before))
    finally:
        os._exit(0)
"""


@pytest.mark.full
@pytest.mark.skipif(not processes.can_measure(), reason="reads Linux's peak memory")
def test_little_memory_from_nothing(run, tally: Tally, tmp_path) -> None:
    """Each file in a process of its own: one that read others before has memory left, which hides what is taken."""
    crowded = tmp_path / "a.safetensors"
    crowded.write_bytes(checkpoint_zoo.crowded(9_950))
    paths = {str(crowded): checkpoint_zoo.Hostile("as many tensors as are allowed", crowded)}
    paths |= {str(case.path): case for _, case in run[0] if "\n" not in str(case.path)}
    manifest = tmp_path / "manifest.txt"
    manifest.write_text("\n".join(paths), encoding="utf-8")
    demo = str(checkpoint_zoo.demo_files()[0])
    finished = processes.run_python(FORKING, str(manifest), demo, folder=tmp_path, timeout=1200)
    peaks = {report["path"]: report["peak"] for report in finished.reports}
    for path, case in paths.items():
        if path not in peaks:
            tally.lost(f"{case.name} ({path}) ended its process: {finished.text[-500:]}")
        elif peaks[path] > FACTOR * case.path.stat().st_size + BASE:
            tally.lost(f"{case.name} ({path}): took {peaks[path] / 1e6:.0f} MB")
        else:
            tally.worked()


def test_at_least_a_hundred(run) -> None:
    assert len({case.name for _, case in run[0]}) >= 100


def test_nothing_touched_the_canary(run) -> None:
    assert not run[1].exists()


@pytest.mark.skipif(bool(processes.why_no_trace()), reason=processes.why_no_trace() or "-")
def test_nothing_was_started(run) -> None:
    """By a trace of the process's system calls, of all its threads and children."""
    finished = run[2]
    started = processes.started(finished.trace)
    assert len(started) == 1, started[:3]
    assert "python" in started[0]
    assert not [line for line in finished.trace if "AF_INET" in line]
