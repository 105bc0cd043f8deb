"""Job lists: many animations from one file, resumed where they stopped, never overwriting unasked."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from . import state

LEDGER = "jobs.json"
XDYNA_FIELDS = {"image_path": "reference", "target_no_head_poses": "driving", "caption": "prompt"}
"""X-Dyna's example.json names on the left (X-Dyna spec 10), ours on the right."""


@dataclass(frozen=True)
class Job:
    """One animation: a reference picture, what drives it, and settings that differ from the list's."""

    reference: Path
    driving: Path
    settings: dict = field(default_factory=dict)
    face: Path | None = None

    @property
    def stem(self) -> str:
        """The output's name without suffix: reference and driving name, then what keeps it apart."""
        parts = [_plain(self.reference.stem), _plain(self.driving.stem)]
        parts += [f"{k}-{_plain(str(v))}" for k, v in sorted(self.settings.items()) if k != "prompt"]
        return "_".join(p for p in parts if p)


def _plain(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text).strip("-.")


def read_jobs(path: str | Path) -> list[Job]:
    """The jobs of a JSON or YAML list; relative paths are seen from the list's folder.

    An entry is ``[frame_interval, reference, poses]`` (UniAnimate's test list), a mapping with
    ``image_path`` and ``target_videos`` / ``target_no_head_poses`` lists (X-Dyna's example.json), or a
    mapping with ``reference``, ``driving`` and any ``animate`` option.
    Raises ValueError with the entry's number where it is none of these.
    """
    path = Path(path)
    entries = _parse(path)
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{path} must hold a non-empty list of jobs; it holds {type(entries).__name__}.")
    jobs = []
    for number, entry in enumerate(entries, 1):
        try:
            jobs += _jobs_of(entry, path.parent)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"Entry {number} of {path} is not a job ({error}): expected [frame interval, reference, "
                "poses], a mapping with reference and driving, or X-Dyna's image_path and poses."
            ) from error
    return jobs


def _parse(path: Path) -> object:
    text = path.read_text(encoding="utf-8")
    try:
        if path.suffix.lower() == ".json":
            return json.loads(text)
        import yaml

        return yaml.safe_load(text)
    except ImportError as error:
        raise ImportError(f"{path} is YAML, which needs the package pyyaml: pip install pyyaml.") from error
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}.") from error
    except Exception as error:  # yaml's errors share no base class with ours
        raise ValueError(f"{path} is not valid YAML: {error}.") from error


def _jobs_of(entry: object, folder: Path) -> list[Job]:
    if isinstance(entry, list):
        interval, reference, driving = entry
        return [Job(folder / str(reference), folder / str(driving), {"frame_interval": int(interval)})]
    if not isinstance(entry, dict):
        raise TypeError(f"a {type(entry).__name__}")
    if "image_path" in entry:
        return _xdyna_jobs(entry, folder)
    rest = {k: v for k, v in entry.items() if k not in ("reference", "driving", "face")}
    face = folder / entry["face"] if entry.get("face") else None
    return [Job(folder / entry["reference"], folder / entry["driving"], rest, face)]


def _xdyna_jobs(entry: dict, folder: Path) -> list[Job]:
    """One job for each pose video; the driving video of the same place feeds the face maps."""
    poses = entry.get("target_no_head_poses") or entry["target_videos"]
    videos = entry.get("target_videos") or []
    settings = {"prompt": entry["caption"]} if entry.get("caption") else {}
    if len(videos) not in (0, len(poses)):
        raise ValueError(f"{len(videos)} target_videos for {len(poses)} target_no_head_poses")
    faces = [folder / v for v in videos] or [None] * len(poses)
    reference = folder / entry["image_path"]
    return [Job(reference, folder / p, settings, f) for p, f in zip(poses, faces, strict=True)]


@dataclass(frozen=True)
class Ledger:
    """Which job made which file in an output folder, so that a list goes on where it stopped."""

    folder: Path

    @property
    def _file(self) -> Path:
        return self.folder / LEDGER

    def _entries(self) -> dict[str, str]:
        try:
            return json.loads(self._file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise ValueError(
                f"{self._file} is damaged ({error}); delete it to run every job again."
            ) from error

    def done(self, key: str) -> Path | None:
        """The finished file of the job with this key, if it still exists."""
        name = self._entries().get(key)
        file = self.folder / name if name else None
        return file if file and file.is_file() else None

    def free(self, stem: str, suffix: str, overwrite: bool) -> Path:
        """A path for a new result: never an existing file, unless overwriting was asked for."""
        file, number = self.folder / f"{stem}{suffix}", 2
        while file.exists() and not overwrite:
            file, number = self.folder / f"{stem}_{number}{suffix}", number + 1
        return file

    def record(self, key: str, file: Path) -> None:
        """Remember a finished job; written aside and renamed, so that a cut leaves the old ledger."""
        entries = {**self._entries(), key: file.name}
        aside = self._file.with_suffix(".part")
        aside.write_text(json.dumps(entries, indent=1), encoding="utf-8")
        aside.replace(self._file)


def key_of_job(job: Job, options: dict) -> str:
    """What decides a job's result: its inputs' bytes and every setting."""
    inputs = [state.content_of(p) for p in (job.reference, job.driving, job.face) if p is not None]
    return state.key_of(inputs, job.settings, options)
