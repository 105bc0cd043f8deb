"""What is installed, found and missing, and the one command that mends it."""

from __future__ import annotations

import importlib.util
import platform
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from . import models
from .networks import PARTS, Weights, find_files, places
from .poses import open_detector
from .state import content_of, place

Findings = dict[str, Any]


class Library(NamedTuple):
    """A library: its packages, the first is what to install; what is lost without it; whether that matters."""

    packages: tuple[str, ...]
    lost: str
    needed: bool = True


LIBRARIES: Mapping[str, Library] = {
    "torch": Library(("torch",), "everything but poses"),
    "numpy": Library(("numpy",), "everything"),
    "diffusers": Library(("diffusers",), "both autoencoders, X-Dyna's ControlNets"),
    "transformers": Library(("transformers",), "both systems' CLIP towers"),
    "safetensors": Library(("safetensors",), "weights"),
    "einops": Library(("einops",), "both systems"),
    "cv2": Library(("opencv-python", "opencv-python-headless", "opencv-contrib-python"), "drawing, face maps"),
    "av": Library(("av",), "reading and writing video"),
    "PIL": Library(("pillow",), "reading and writing pictures"),
    "platformdirs": Library(("platformdirs",), "the pose cache outside ComfyUI"),
    "tqdm": Library(("tqdm",), "the command line's progress bars"),
    "onnxruntime": Library(("onnxruntime-gpu", "onnxruntime", "onnxruntime-directml"), "DWPose"),
    "mediapipe": Library(("mediapipe",), "poses without a download", needed=False),
    "yaml": Library(("pyyaml",), "job lists in YAML", needed=False),
}  # fmt: skip
"""By import name."""

MEDIAPIPE = f'"{sys.executable}" -m pip install --no-deps -r requirements-mediapipe.txt'
INSTALL = f'"{sys.executable}" -m pip install'


def examine(folders: Sequence[Path] = (), hashes: bool = False) -> Findings:
    """Everything as plain values: versions, devices, pose backends, files, whether each system can run, advice.

    folders: models folders. hashes: compare sha256 where it is known, which reads whole files.
    """
    libraries = [_library(name, library) for name, library in LIBRARIES.items()]
    backends = _backends(folders)
    files = [_file(row, places(folders), hashes) for row in models.FILES]
    return {
        "system": {"python": sys.version.split()[0], "platform": platform.platform(), "cache": str(place())},
        "libraries": libraries,
        "devices": _devices(),
        "pose_backends": backends,
        "folders": [str(folder) for folder in folders],
        "files": files,
        "systems": [_system(system, folders) for system in PARTS],
        "advice": _advice(libraries, backends, files),
    }


def lines(found: Findings) -> list[str]:
    """The findings for a person."""
    system = found["system"]
    libraries = [
        f"{one['package']:<16} {one['version'] or 'missing, which costs ' + one['lost']}"
        for one in found["libraries"]
    ]
    backends = [
        f"{one['name']:<10} {'yes' if one['usable'] else 'no':<4} {one['detail']}"
        for one in found["pose_backends"]
    ]
    files = [
        line
        for one in found["files"]
        for line in (
            f"{one['name']:<42} {one['found'] or 'not found'}",
            f"{'':<42} {one['part']}; licence: {one['licence']}",
        )
    ]
    systems = [f"{one['name']:<18} {'ready' if one['ready'] else one['detail']}" for one in found["systems"]]
    sections = {
        f"Python {system['python']} on {system['platform']}": [f"cache: {system['cache']}"],
        "Libraries": libraries,
        "Devices": found["devices"],
        "Pose backends": backends,
        f"Model files in {', '.join(found['folders']) or 'no folder; name one with --models'}": files,
        "Systems": systems,
        "What to do": found["advice"],
    }
    return [text for title, entries in sections.items() for text in (title, *(f"  {e}" for e in entries), "")]


# ---- looking ---------------------------------------------------------------------------------------------


def _library(name: str, library: Library) -> dict[str, Any]:
    entry = {"import": name, "package": library.packages[0], "version": None, "lost": library.lost}
    if importlib.util.find_spec(name) is None:
        return {**entry, "needed": library.needed}
    for package in library.packages:
        if (version := _version(package)) is not None:
            return {**entry, "package": package, "version": version, "needed": library.needed}
    return {**entry, "version": "of unknown version", "needed": library.needed}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _devices() -> list[str]:
    if importlib.util.find_spec("torch") is None:
        return ["none: torch is missing"]
    import torch

    found = []
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        found.append(f"cuda:{index} {name}, {free / 2**30:.1f} of {total / 2**30:.1f} GB free")
    others = [kind for kind in ("xpu", "mps") if getattr(torch, kind).is_available()]
    return [*found, *others, f"cpu, {torch.get_num_threads()} threads"]


def _backends(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Every pose backend, opened to see that it works and what it runs on."""
    from ..pose_align.detector import available_backends

    found = []
    for state in available_backends(folders):
        usable, detail = state.usable, state.detail
        if usable:
            usable, detail = _opened(state.name, folders, detail)
        found.append({"name": state.name, "usable": usable, "detail": detail})
    return found


def _opened(name: str, folders: Sequence[Path], detail: str) -> tuple[bool, str]:
    try:
        return True, f"runs on {open_detector(name, folders).provider}. {detail}"
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        return False, str(error)


def _file(row: models.ModelFile, searched: Sequence[Path], hashes: bool) -> dict[str, Any]:
    hit = models.find(row.name, searched)
    entry: dict[str, Any] = {name: getattr(row, name) for name in ("name", "part", "licence", "page")}
    entry["found"] = None if hit is None else str(hit)
    if hit is None:
        return entry
    size = hit.stat().st_size
    if row.size is not None and size != row.size:
        return {**entry, "problem": f"has {size} bytes instead of {row.size}: fetch it again from {row.page}"}
    if hashes:
        entry["sha256"] = content_of(hit)
        if row.sha256 not in (None, entry["sha256"]):
            entry["problem"] = f"is not the published file (sha256): fetch it again from {row.page}"
    return entry


def _system(system: Any, folders: Sequence[Path]) -> dict[str, Any]:
    """Whether all files of a system are there, or what is lacking."""
    try:
        find_files(system, Weights(folders=tuple(folders)))
    except FileNotFoundError as error:
        return {"name": system, "ready": False, "detail": str(error)}
    return {"name": system, "ready": True, "detail": ""}


def _advice(libraries: list[dict], backends: list[dict], files: list[dict]) -> list[str]:
    """What to do, the most urgent first; each line holds one command or one action."""
    missing = [one["package"] for one in libraries if one["version"] is None and one["needed"]]
    advice = [f"Install what is missing: {INSTALL} {' '.join(missing)}"] if missing else []
    if not any(backend["usable"] for backend in backends):
        advice.append(f"No pose detector can be used; without a download: {MEDIAPIPE}")
    advice += [f"{file['found']} {file['problem']}." for file in files if "problem" in file]
    if not any(file["found"] for file in files):
        advice.append("No published weights were found; everything still runs with --weights demo.")
    return advice or ["Nothing is missing."]
