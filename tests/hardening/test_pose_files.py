"""Pose files and POSE_KEYPOINT lists from strangers: every value exchanged for a hostile one, cut, nested, bombed."""

from __future__ import annotations

import copy
import io
import json
import os
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from xdyna_unianimate.pose_align import interchange
from xdyna_unianimate.pose_align.draw import XDYNA, draw
from xdyna_unianimate.pose_align.pose import PoseError

from ..pose_align import people
from . import processes
from .tally import Tally

FAMILY = "pose files"

HOSTILE = (
    None, True, -1, 0, 1, 2, 0.5, 1e308, -1e308, 10**30, 10**400, float("nan"), float("inf"), "", "1", "ten", "../../x",
    [], [[]], [1, 2, 3], [None], ["a"], {}, {"people": []}, [{}], [[1], [2, 3]],
)  # fmt: skip


def places(content: object, path: tuple = ()) -> Iterator[tuple]:
    """Keys and indices that lead to every value; of long lists of numbers only to the first and the last."""
    yield path
    if isinstance(content, dict):
        for key, value in content.items():
            yield from places(value, (*path, key))
    elif isinstance(content, list):
        ends = {0, len(content) - 1} if content else set()
        for index in sorted(ends):
            yield from places(content[index], (*path, index))


def exchanged(content: object, path: tuple, value: object) -> object:
    """A copy with another value at the end of the path."""
    if not path:
        return value
    changed = copy.deepcopy(content)
    holder = changed
    for step in path[:-1]:
        holder = holder[step]
    holder[path[-1]] = value
    return changed


def use(path: Path) -> None:
    """Read a file and do with it what everybody does."""
    poses = interchange.load_poses(path)
    assert np.isfinite(poses.points).all() and np.isfinite(poses.scores).all()
    draw(poses[:1], XDYNA, (64, 96))
    interchange.to_openpose(poses)
    interchange.save_poses(poses, path.with_name("again.json"))
    interchange.load_poses(path.with_name("again.json"))


def contents() -> dict[str, object]:
    """A file of each kind, decoded."""
    clip = people.clip(2, canvas=(64, 96), fps=25.0)
    stream = io.StringIO()
    lists = {name: getattr(clip, name).tolist() for name in ("points", "scores", "origins")}
    details = {"format": "xdua-poses", "version": 1, "canvas": [64, 96], "fps": 25.0, "person_id": 0}
    json.dump({**details, **lists}, stream)
    foreign = [
        {key: value for key, value in frame.items() if key != interchange.EXTRA}
        for frame in interchange.to_openpose(clip)
    ]
    return {
        "ours": json.loads(stream.getvalue()),
        "keypoints": foreign,
        "keypoints with our fields": interchange.to_openpose([clip, clip], dialect="core"),
    }


@pytest.mark.parametrize("kind", list(contents()))
def test_every_value_exchanged(kind: str, tally: Tally, amount, tmp_path: Path) -> None:
    content, path = contents()[kind], tmp_path / "poses.json"
    cases = [(place, value) for place in places(content) for value in HOSTILE]
    for place, value in cases[:: amount(max(1, len(cases) // 60), 1)]:
        path.write_text(json.dumps(exchanged(content, place, value)))
        with tally.trying(f"{kind}: {place} = {value!r:.40}", sentences=(PoseError,)):
            use(path)


def damaged(kind: str) -> Iterator[tuple[str, str, bytes]]:
    """(name, file name, bytes) of files that are cut, nested too deeply, or something else."""
    text = json.dumps(contents()[kind]).encode()
    for part in range(1, 20):
        yield f"cut at {part}/20", "poses.json", text[: len(text) * part // 20]
    yield "empty", "poses.json", b""
    yield "no text", "poses.json", bytes(range(256))
    yield "UTF-16", "poses.json", text.decode().encode("utf-16")
    yield "nested lists", "poses.json", b"[" * 100_000
    yield "nested dicts", "poses.json", b'{"a":' * 100_000
    deep = b'"points": [' + b"[" * 100 + b"]" * 100 + b","
    yield "nested points", "poses.json", text.replace(b'"points": [', deep, 1)
    yield "an archive's name", "poses.npz", text


@pytest.mark.parametrize("kind", list(contents()))
def test_damaged_text(kind: str, tally: Tally, tmp_path: Path) -> None:
    for name, file, content in damaged(kind):
        (tmp_path / file).write_bytes(content)
        with tally.trying(f"{kind}: {name}", names=file, sentences=(PoseError,)):
            use(tmp_path / file)


def archive(**entries: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for name, content in entries.items():
            file.writestr(f"{name}.npy", content)
    return stream.getvalue()


def array(values: object) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values, allow_pickle=True)
    return stream.getvalue()


@cache
def archives() -> dict[str, bytes]:
    """Hostile .npz files."""
    clip = people.clip(2, canvas=(64, 96))
    details = {"format": "xdua-poses", "version": 1, "canvas": [64, 96], "fps": None, "person_id": 0}
    good = {
        "details": array(np.array(json.dumps(details))),
        **{name: array(getattr(clip, name)) for name in ("points", "scores", "origins")},
    }
    whole = archive(**good)
    giant = array(np.zeros((1, 134, 2)))[:-2144].replace(b"(1, 134, 2), }  ", b"(99999, 134, 2)}")
    found = {
        "bomb": archive(**good, more=b"\0" * 537_000_000),
        "points that are a bomb": archive(**{**good, "points": array(np.zeros((100_000, 134, 2)))}),
        "a header that lies": archive(**{**good, "points": giant}),
        "an object array": archive(**{**good, "points": array(np.array([{}], dtype=object))}),
        "text for points": archive(**{**good, "points": array(np.array("points"))}),
        "complex scores": archive(**{**good, "scores": array(np.zeros((2, 134), complex) + 1j)}),
        "no scores": archive(**{name: value for name, value in good.items() if name != "scores"}),
        "details that are no text": archive(**{**good, "details": array(np.zeros(3))}),
        "details that are a list": archive(**{**good, "details": array(np.array("[1, 2]"))}),
        "details that grow when they are parsed": archive(
            **{**good, "details": array(np.array('{"x":[' + "[]," * 1_000_000 + "[]]}"))}
        ),
        "details nested too deeply": archive(**{**good, "details": array(np.array("[" * 100_000))}),
        "raw bytes for an array": archive(**{**good, "points": b"abc"}),
        "no frames": archive(
            **{**good, **{name: array(getattr(clip, name)[:0]) for name in ("points", "scores", "origins")}}
        ),
        "infinite points": archive(**{**good, "points": array(np.full((2, 134, 2), np.inf))}),
    }
    for part in range(1, 20):
        found[f"cut at {part}/20"] = whole[: len(whole) * part // 20]
    rng = np.random.default_rng(7)
    for number in range(40):
        bytes_ = np.frombuffer(whole, np.uint8).copy()
        bytes_[rng.integers(len(bytes_), size=3)] = rng.integers(256, size=3)
        found[f"damaged bytes {number}"] = bytes_.tobytes()
    return found


def test_hostile_archives(tally: Tally, tmp_path: Path) -> None:
    path = tmp_path / "poses.npz"
    for name, content in archives().items():
        path.write_bytes(content)
        with tally.trying(name, names=path.name, sentences=(PoseError,)):
            use(path)


def test_places_that_hold_no_file(tally: Tally, tmp_path: Path) -> None:
    """Pipes, folders in a folder of files, names that no system takes."""
    folder = tmp_path / "folder"
    (folder / "a.json").mkdir(parents=True)
    cases = [
        folder,
        tmp_path / "a\0b.npz",
        tmp_path / "a\0b.json",
        tmp_path / f"{'n' * 300}.npz",
        tmp_path / "no.npz",
    ]
    if hasattr(os, "mkfifo"):
        for name in ("pipe.json", "pipe.npz"):
            os.mkfifo(tmp_path / name)
            cases.append(tmp_path / name)
    for path in cases:
        with tally.trying(repr(path.name[:40]), must_refuse=True):
            use(path)


@pytest.mark.parametrize(
    ("name", "limit"), [("long.json", interchange.TEXT_LIMIT), ("long.npz", interchange.FILE_LIMIT)]
)
def test_a_file_larger_than_any_clip_is_not_read(tally: Tally, tmp_path: Path, name: str, limit: int) -> None:
    path = tmp_path / name
    with path.open("wb") as file:
        file.truncate(limit + 1)
    with tally.trying(name, names=name, sentences=(PoseError,), must_refuse=True):
        use(path)


BOMB = """
from xdyna_unianimate.pose_align import interchange
for path in sys.argv[1:]:
    before = forget_peak()
    try:
        interchange.load_poses(path)
    except ValueError as error:
        report(peak=peak_since(before), said=str(error))
"""


@pytest.mark.skipif(not processes.can_measure(), reason="reads Linux's peak memory")
def test_a_bomb_is_not_unpacked(tally: Tally, tmp_path: Path) -> None:
    paths = [tmp_path / "whole.npz", tmp_path / "details.npz"]
    for path, bomb in zip(paths, ("bomb", "details that grow when they are parsed"), strict=True):
        path.write_bytes(archives()[bomb])
    reports = processes.run_python(BOMB, *map(str, paths)).reports
    for path, found in zip(paths, reports, strict=True):
        assert found["peak"] < 50e6, path
        tally.refused(found["said"], names=path.name)
