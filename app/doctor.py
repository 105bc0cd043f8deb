"""What is installed, found and missing, and the one command that mends it."""

from __future__ import annotations

import importlib.util
import platform
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from . import models

LIBRARIES = {
    # import name: (package, what is lost without it)
    "torch": ("torch", "everything but poses"),
    "diffusers": ("diffusers", "both systems' autoencoder, X-Dyna's ControlNets"),
    "transformers": ("transformers", "both systems' CLIP towers"),
    "safetensors": ("safetensors", "loading weights"),
    "einops": ("einops", "both systems"),
    "cv2": ("opencv-python", "drawing poses, face maps"),
    "av": ("av", "reading and writing video"),
    "platformdirs": ("platformdirs", "the pose cache outside ComfyUI"),
    "onnxruntime": ("onnxruntime-gpu", "DWPose"),
    "mediapipe": ("mediapipe", "poses without a download"),
}
OPTIONAL = frozenset({"mediapipe", "platformdirs"})
MEDIAPIPE = "python -m pip install --no-deps -r requirements-mediapipe.txt"


def examine(folders: Sequence[Path] = (), hashes: bool = False) -> dict[str, Any]:
    """Everything as data: ``system``, ``libraries``, ``devices``, ``pose_backends``, ``files``, ``advice``.

    folders: where model files may lie. hashes: compare sha256 where it is known (reads whole files).
    """
    libraries = [_library(name) for name in LIBRARIES]
    backends = _backends(folders)
    files = [_file(row, folders, hashes) for row in models.FILES]
    return {
        "system": {"python": sys.version.split()[0], "platform": platform.platform()},
        "libraries": libraries,
        "devices": _devices(),
        "pose_backends": backends,
        "files": files,
        "advice": _advice(libraries, backends, files),
    }


def text(findings: dict[str, Any]) -> str:
    """The findings as lines for a person."""
    system = findings["system"]
    lines = [f"Python {system['python']} on {system['platform']}", "", "Libraries"]
    lines += [
        f"  {lib['package']:<16} {lib['version'] or 'missing: ' + lib['lost']}"
        for lib in findings["libraries"]
    ]
    lines += ["", "Devices", *(f"  {device}" for device in findings["devices"]), "", "Pose backends"]
    for backend in findings["pose_backends"]:
        lines.append(f"  {backend['name']:<10} {'yes' if backend['usable'] else 'no '}  {backend['detail']}")
    lines += ["", "Model files"]
    for file in findings["files"]:
        lines.append(f"  {file['name']:<44} {file['found'] or 'not found'}")
        lines.append(f"  {'':<44} {file['part']}; licence: {file['licence']}")
    return "\n".join([*lines, "", "What to do", *(f"  {advice}" for advice in findings["advice"])])


def _library(name: str) -> dict[str, Any]:
    package, lost = LIBRARIES[name]
    if importlib.util.find_spec(name) is None:
        return {"import": name, "package": package, "version": None, "lost": lost}
    version = next(
        (v for v in map(_version, (package, name, f"{package}-headless", "onnxruntime")) if v), "?"
    )
    return {"import": name, "package": package, "version": version, "lost": lost}


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
    if torch.backends.mps.is_available():
        found.append("mps")
    return [*found, f"cpu, {torch.get_num_threads()} threads"]


def _backends(folders: Sequence[Path]) -> list[dict[str, Any]]:
    from ..pose_align.detector import available_backends

    states = available_backends([*folders, *(folder / "dwpose" for folder in folders)])
    return [{"name": s.name, "usable": s.usable, "detail": s.detail} for s in states]


def _file(row: models.ModelFile, folders: Sequence[Path], hashes: bool) -> dict[str, Any]:
    searched = [*folders, *(folder / name for folder in folders for name in (row.folder, *row.also))]
    hit = models.find(row.name, searched)
    entry = {
        "name": row.name,
        "part": row.part,
        "licence": row.licence,
        "page": row.page,
        "found": None if hit is None else str(hit),
    }
    if hit is not None and row.size is not None and hit.stat().st_size != row.size:
        entry["problem"] = f"has {hit.stat().st_size} bytes, not {row.size}: fetch it again"
    elif hit is not None and hashes and row.sha256 is not None:
        from .state import content_of

        entry["sha256"] = content_of(hit)
        if entry["sha256"] != row.sha256:
            entry["problem"] = "has another sha256 than the published file: fetch it again"
    return entry


def _advice(libraries: list[dict], backends: list[dict], files: list[dict]) -> list[str]:
    advice = []
    missing = [
        lib["package"] for lib in libraries if lib["version"] is None and lib["import"] not in OPTIONAL
    ]
    if missing:
        advice.append(f"Install what is missing: python -m pip install {' '.join(missing)}")
    if not any(backend["usable"] for backend in backends):
        advice.append(f"No pose detector can be used. Without a download: {MEDIAPIPE}")
    advice += [f"{file['found']} {file['problem']}." for file in files if "problem" in file]
    if not any(file["found"] for file in files):
        advice.append("No published weights were found; everything still runs with --weights demo.")
    return advice or ["Nothing is missing."]
