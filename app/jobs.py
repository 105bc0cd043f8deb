"""Job lists: many animations from one file, resumed where they stopped, never overwriting unasked."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..pose_align.shown import MOST_BITS, cut, shown
from ..video_core.asides import errors_name
from . import state
from .animate import Source
from .names import short

LEDGER = "finished_jobs.jsonl"
UNIANIMATE_LIST = "test_list_path"
"""The key of UniAnimate's YAML under which its jobs stand (UniAnimate spec 1)."""

MOST_PARTS = 16
"""Of a setting that is a list, such as [512, 768]."""

LARGEST = 1 << 24
"""Bytes of a list: 80,000 jobs."""

LONGEST_REASON = 200
"""Characters of what is wrong with an entry, and of what a parser says."""

UNNAMED = {"model", "prompt", "negative"}
"""Settings that do not stand in a file's name: every name ends in the model, and texts are long."""

OWN_FIELDS = {"reference", "driving", "reference_pose", "face_video", "drawn"}


@dataclass(frozen=True)
class Job:
    """One animation: what it is made from, and settings that differ from the list's, by option name."""

    source: Source
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def stem(self) -> str:
        """The output's name without suffix: reference and driving name, then what keeps it apart."""
        parts = [_plain(self.source.reference.stem), _plain(self.source.driving.stem)]
        parts += [f"{k}-{_plain(str(v))}" for k, v in sorted(self.settings.items()) if k not in UNNAMED]
        return short("_".join(p for p in parts if p))


def _plain(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text).strip("-.")


# ---- reading -------------------------------------------------------------------------------------------


def read_jobs(path: str | Path) -> list[Job]:
    """The jobs of a JSON or YAML list; relative paths are seen from the list's folder, else from here.

    An entry is ``[frame_interval, reference, poses]`` (UniAnimate's test list, or its whole YAML), a mapping
    with ``image_path`` and ``target_videos`` / ``target_no_head_poses`` lists (X-Dyna's example.json), or
    one with ``reference``, ``driving``, perhaps ``reference_pose``, ``face_video`` or ``drawn``, and any
    option of ``animate``. Raises ValueError with the entry's number where it is none of these.
    """
    path = Path(path)
    entries = _parse(path)
    if isinstance(entries, dict) and UNIANIMATE_LIST in entries:
        entries = entries[UNIANIMATE_LIST]
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{path} must hold a non-empty list of jobs; it holds {type(entries).__name__}.")
    jobs = []
    for number, entry in enumerate(entries, 1):
        try:
            jobs += _jobs_of(entry, path.parent)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(
                f"Entry {number} of {path} is not a job ({_reason(error)}): expected [frame interval, reference, "
                "poses], a mapping with reference and driving, or X-Dyna's image_path and poses."
            ) from error
    return jobs


def _parse(path: Path) -> object:
    text = _text(path)
    if path.suffix.lower() == ".json":
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path} is not valid JSON: {_reason(error)}.") from error
    try:
        import yaml
    except ImportError as error:
        raise ImportError(f"{path} is YAML, which needs the package pyyaml: pip install pyyaml.") from error
    try:
        # A few lines of names for lists of names stand for more than any memory holds.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise ValueError("it refers to other places of itself (*name); write out what they hold")
        return yaml.safe_load(text)
    # Besides YAMLError what its types make of their texts: ValueError, IndexError, RecursionError, ...
    except Exception as error:
        raise ValueError(f"{path} is not a YAML list of jobs: {_reason(error)}.") from error


def _text(path: Path) -> str:
    """A list's text; ValueError for what is no file (a pipe would be waited for for ever), too large, or no text."""
    from ..video_core.images import opened_file

    with opened_file(path, "a list of jobs") as file, errors_name(path):
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise ValueError(
            f"{path} is larger than any list of jobs, which has {LARGEST >> 20} MB at most; split it."
        )
    try:
        return content.decode("utf-8")
    except ValueError as error:
        raise ValueError(f"{path} is no text in UTF-8: {error}.") from error


def _reason(error: Exception) -> str:
    """What an error says, on one line and of a length to be read."""
    return cut(" ".join(str(error).split()), LONGEST_REASON)


def _jobs_of(entry: object, folder: Path) -> list[Job]:
    if isinstance(entry, list):
        interval, reference, driving = entry
        source = Source(_seen_from(folder, reference), _seen_from(folder, driving))
        return [Job(source, {"frame_interval": _setting("frame_interval", int(interval))})]
    if not isinstance(entry, dict):
        raise TypeError(f"a {type(entry).__name__}")
    if "image_path" in entry:
        return _xdyna_jobs(entry, folder)
    source = Source(
        reference=_seen_from(folder, entry["reference"]),
        driving=_seen_from(folder, entry["driving"]),
        reference_pose=_seen_from(folder, entry.get("reference_pose")),
        face=_seen_from(folder, entry.get("face_video")),
        drawn=bool(entry.get("drawn", False)),
    )
    return [Job(source, {name: _setting(name, entry[name]) for name in entry if name not in OWN_FIELDS})]


def _setting(name: object, value: object) -> object:
    """A value that could have been typed; a YAML of a few lines can hold lists in lists that fill the memory."""
    parts = value if isinstance(value, list) else [value]
    crowded = len(parts) > MOST_PARTS or any(isinstance(part, list | dict | set | tuple) for part in parts)
    if crowded or not isinstance(name, str):
        raise ValueError(f"{shown(name)} is no setting, or its value is neither text nor a number")
    for part in parts:
        if isinstance(part, str):
            _check_text(part)
        # Python writes out no number of more than 4300 digits, which YAML reads in hexadecimal.
        elif isinstance(part, int) and part.bit_length() > MOST_BITS:
            raise ValueError(f"{shown(name)} is {shown(part)}, and no setting is so large")
    return value


def _check_text(text: str) -> None:
    """Raise ValueError for text that nobody could have typed, and that no file's name can hold."""
    problem = "a zero byte" if "\0" in text else ""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        problem = "half a letter"
    if problem:
        raise ValueError(f"{shown(text)} holds {problem}, which neither a file's name nor an option can")


def _listed(entry: Mapping[str, Any], name: str) -> list[Any]:
    """The list under a name, empty where there is none; TypeError for what is no list."""
    found = entry.get(name) or []
    if not isinstance(found, list):
        raise TypeError(f"{name} is a list of paths, not {shown(found)}")
    return found


def _xdyna_jobs(entry: Mapping[str, Any], folder: Path) -> list[Job]:
    """One job for each drawn pose video, its driving video for the face; or for each driving video."""
    videos, drawn = _listed(entry, "target_videos"), _listed(entry, "target_no_head_poses")
    reference = _seen_from(folder, entry["image_path"])
    settings = {"prompt": _setting("caption", entry["caption"])} if entry.get("caption") else {}
    if not videos and not drawn:
        raise ValueError("it names neither target_videos nor target_no_head_poses")
    if not drawn:
        return [Job(Source(reference, _seen_from(folder, video)), settings) for video in videos]
    if len(videos) not in (0, len(drawn)):
        raise ValueError(f"{len(videos)} target_videos for {len(drawn)} target_no_head_poses")
    return [
        Job(
            Source(reference, _seen_from(folder, poses), face=_seen_from(folder, video), drawn=True), settings
        )
        for poses, video in zip(drawn, videos or [None] * len(drawn), strict=True)
    ]


def _seen_from(folder: Path, name: object) -> Path | None:
    """A path beside the list if there is one; else the path as it stands, as the originals' lists mean it."""
    if name is None:
        return None
    if not isinstance(name, str):
        raise TypeError(f"a path was expected, not {shown(name)}")
    _check_text(name)
    here = Path(name)
    try:
        return here if here.exists() and not (folder / name).exists() else folder / name
    except OSError as error:
        raise ValueError(f"{shown(name)} cannot be looked for: {error.strerror}") from error


# ---- what is done already ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ledger:
    """Which job made which file in an output folder, so that a list goes on where it stopped.

    A line of JSON for each, added in one piece: several processes may share a folder. A line that cannot be read,
    such as a kill or a full disk leaves, counts as a job that is not done.
    """

    folder: Path

    @property
    def _file(self) -> Path:
        return self.folder / LEDGER

    def _entries(self) -> dict[str, str]:
        try:
            with errors_name(self._file):
                lines = self._file.read_bytes().splitlines()
        except FileNotFoundError:
            return {}
        return dict(filter(None, map(_record, lines)))

    def done(self, key: str) -> Path | None:
        """The finished file of the job with this key, if it still exists."""
        name = self._entries().get(key)
        file = self.folder / name if name else None
        return file if file and file.exists() else None

    def record(self, key: str, file: Path) -> None:
        """Remember a finished job."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with errors_name(self._file), self._file.open("ab") as ledger:
            # On a line of its own, whatever the line before was cut to.
            ledger.write(f"\n{json.dumps([key, file.name])}".encode())


def _record(line: bytes) -> tuple[str, str] | None:
    """A job's key and its file's name."""
    try:
        key, name = json.loads(line)
    except (TypeError, ValueError, RecursionError):
        return None
    return (key, name) if isinstance(key, str) and isinstance(name, str) else None


def key_of_job(source: Source, settings: object) -> str:
    """What decides a job's result: its inputs' bytes and every setting (anything that ``key_of`` takes)."""
    files = (source.reference, source.driving, source.reference_pose, source.face)
    contents = [None if file is None else state.content_of(file) for file in files]
    return state.key_of(contents, source.drawn, settings)
