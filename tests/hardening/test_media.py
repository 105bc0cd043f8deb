"""Malformed and odd media: each works or ends in one sentence, in little memory, and opens nothing else."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from . import media_zoo, processes
from .tally import Tally

FAMILY = "media"

MEMORY = 300e6
"""Bytes that reading any of the cases may take at its peak, whatever a header claims."""
PER_PIXEL = 8
"""Bytes besides, for each pixel of a picture that claims a size within ``PIXEL_LIMIT``."""

READER = """
import faulthandler, logging, pathlib, traceback, os
import numpy as np
import av, PIL.Image
# PyAV's own log level stays as it is: with a level, FFmpeg's threads wait for Python's lock, and it for them.
from xdyna_unianimate.video_core.images import read_picture
from xdyna_unianimate.video_core.video import open_video
logging.disable(logging.CRITICAL)

def clip(path):
    source, count = open_video(path), 0
    for frame in source.frames(max_frames=400):
        assert frame.dtype == np.uint8 and frame.shape == (source.size[1], source.size[0], 3), frame.shape
        count += 1
    assert count
    source.audio()
    assert len(list(source.frames(max_frames=2))) == min(count, 2)

def picture(path):
    frame = read_picture(path)
    assert frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] == 3, frame.shape

for line in pathlib.Path(sys.argv[1]).read_text(encoding="utf-8").splitlines():
    number, way, path = json.loads(line)
    faulthandler.dump_traceback_later(60, exit=True)
    # A place in the trace, to say which case opened what.
    os.path.exists(f"/case-{number}")
    before = forget_peak() if os.path.exists("/proc/self/clear_refs") else None
    said, crash = "", ""
    try:
        {"clip": clip, "picture": picture}[way](path)
    except ValueError as error:
        said = str(error)
    except BaseException:
        crash = traceback.format_exc(limit=-6)
    report(number=number, way=way, said=said, crash=crash, peak=peak_since(before) if before else 0)
faulthandler.cancel_dump_traceback_later()
"""

TRACED = ("openat", "open", "connect", "socket", "execve")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config):
    """The cases, and what a process that read them all reported and was seen to do."""
    from .summary import is_full

    everything = is_full(pytestconfig)
    folder = tmp_path_factory.mktemp("zoo")
    cases = media_zoo.zoo(folder, *((16, 20) if everything else (2, 0)))
    picked = [case for number, case in enumerate(cases) if not number % 2 or case.name in media_zoo.PINNED]
    ways = [("clip", case) for case in (cases if everything else picked)]
    ways += [("picture", case) for case in cases if everything and case.path.suffix != ""]
    manifest = folder / "manifest.jsonl"
    lines = [json.dumps([number, way, str(case.path)]) for number, (way, case) in enumerate(ways)]
    manifest.write_text("\n".join(lines), encoding="utf-8")
    trace = () if processes.why_no_trace() else TRACED
    return ways, processes.run_python(READER, str(manifest), trace=trace, folder=folder, timeout=1500)


def test_each_works_or_is_one_sentence(run, tally: Tally) -> None:
    ways, finished = run
    reports = {report["number"]: report for report in finished.reports}
    for number, (way, case) in enumerate(ways):
        what = f"{case.name} ({way} of {case.path})"
        report = reports.get(number)
        if report is None:
            tally.lost(f"{what}: the process ended with {finished.code}: {finished.text[-1500:]}")
            break
        if report["crash"]:
            tally.lost(f"{what}: {report['crash']}")
        elif report["peak"] > MEMORY + PER_PIXEL * case.pixels:
            tally.lost(f"{what}: took {report['peak'] / 1e6:.0f} MB")
        elif way == "clip" and case.expect not in (
            media_zoo.EITHER,
            "refused" if report["said"] else "works",
        ):
            tally.lost(f"{what}: should have been {case.expect}; {report['said'] or 'was read'}")
        elif report["said"]:
            # A name may hold a line's end of its own; whether it was said is what counts.
            tally.refused(report["said"].replace(str(case.path), "THE FILE"), names="THE FILE")
        else:
            tally.worked()
    if not processes.can_measure():
        pytest.skip("everything but the memory was looked at: its peak is read from Linux's /proc")


def test_at_least_a_hundred(run) -> None:
    assert len({case.name for _, case in run[0]}) >= 100


@pytest.mark.skipif(bool(processes.why_no_trace()), reason=processes.why_no_trace() or "-")
def test_nothing_else_is_opened_called_or_started(run) -> None:
    """By a trace of the process: FFmpeg's own reads and connections raise no Python audit event."""
    ways, finished = run
    started = processes.started(finished.trace)
    assert len(started) == 1, started[:3]
    reached = [line for line in finished.trace if media_zoo.SECRET in line or "/etc/passwd" in line]
    assert not reached, reached[:3]
    assert not [line for line in finished.trace if "AF_INET" in line]
    opened = Counter(line.split('"')[1] for line in finished.trace if "open" in line and '"' in line)
    assert any(str(case.path) in opened for _, case in ways), "the trace saw nothing"
