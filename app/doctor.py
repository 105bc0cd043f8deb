"""What is installed, found and missing, and the one command that mends it."""

from __future__ import annotations

import importlib.util
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from . import download, models
from .hashes import HashBook
from .networks import PARTS, Weights, find_files, places
from .poses import open_detector
from .state import place

Findings = dict[str, Any]


class Library(NamedTuple):
    """A library: its packages, the first is what to install; what is lost without it; whether that matters."""

    packages: tuple[str, ...]
    lost: str
    needed: bool = True


ONNXRUNTIME = ("onnxruntime-gpu", "onnxruntime", "onnxruntime-directml")

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
    "onnxruntime": Library(ONNXRUNTIME if sys.platform != "darwin" else ONNXRUNTIME[1:], "DWPose"),
    "mediapipe": Library(("mediapipe",), "poses without a download", needed=False),
    "yaml": Library(("pyyaml",), "job lists in YAML", needed=False),
    "skimage": Library(("scikit-image",), "SSIM of the evaluation", needed=False),
    "huggingface_hub": Library(("huggingface_hub",), "download from Hugging Face", needed=False),
    "modelscope": Library(("modelscope",), "download from ModelScope", needed=False),
}  # fmt: skip
"""By import name."""

ROOT = Path(__file__).absolute().parents[1]
INSTALL = f'"{sys.executable}" -m pip install'
MEDIAPIPE = f'{INSTALL} --no-deps -r "{ROOT / "requirements-mediapipe.txt"}"'
OURSELVES = f'"{sys.executable}" "{ROOT}"'
"""The command line, wherever the pack lies and whatever its folder is called."""

SMALL = 256 * 2**20
"""Bytes up to which a file is hashed without being asked; it takes less than a second."""


def examine(
    folders: Sequence[Path] = (),
    hashes: bool = False,
    *,
    host: Mapping[str, str] | None = None,
    host_folder: Path | None = None,
) -> Findings:
    """Everything as plain values: versions, devices, pose backends, files, whether each system can run, advice.

    folders: models folders, the first is the one that files are fetched into. hashes: read whole files for
    their sha256; small ones are read anyway, and what was once computed is remembered (``HashBook``).
    host, host_folder: what the host says of itself, and the folder it gives for state.
    """
    libraries = [_library(name, library) for name, library in LIBRARIES.items()]
    searched, book = places(folders), HashBook.at(place(host_folder))
    backends = _backends(searched or folders)
    files = [_file(row, searched, book, hashes) for row in models.FILES]
    systems = [_system(system, folders) for system in PARTS]
    return {
        "system": {
            "pack": version(),
            "python": sys.version.split()[0],
            "platform": platform.platform(),
            "cache": str(place(host_folder)),
            **(host or {}),
        },
        "libraries": libraries,
        "devices": _devices(),
        "pose_backends": backends,
        "folders": [str(folder) for folder in folders],
        "files": files,
        "systems": systems,
        "advice": _advice(libraries, backends, files, systems, folders),
    }


def version() -> str:
    """The pack's own, read from its pyproject: in custom_nodes nothing was installed that could tell it."""
    try:
        text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    except OSError:
        return _version("xdyna-unianimate") or "unknown"
    found = re.search(r'^version = "([^"]+)"', text, re.MULTILINE)
    return found[1] if found else "unknown"


def lines(found: Findings) -> list[str]:
    """The findings for a person."""
    libraries = [
        f"{one['package']:<16} {one['version'] or 'missing, which costs ' + one['lost']}"
        for one in found["libraries"]
    ]
    backends = [
        f"{one['name']:<10} {'used' if one['used'] else 'yes' if one['usable'] else 'no':<5} {one['detail']}"
        for one in found["pose_backends"]
    ]
    systems = [f"{one['name']:<18} {'ready' if one['ready'] else one['detail']}" for one in found["systems"]]
    searched = ", ".join(found["folders"]) or "no folder; name one with --models"
    sections = {
        "Versions": [f"{name:<16} {value}" for name, value in found["system"].items()],
        "Libraries": libraries,
        "Devices": found["devices"],
        "Pose backends": backends,
        f"Model files in {searched}": [line for one in found["files"] for line in _file_lines(one)],
        "Systems": systems,
        "What to do": found["advice"],
    }
    return [text for title, entries in sections.items() for text in (title, *(f"  {e}" for e in entries), "")]


def _file_lines(file: Mapping[str, Any]) -> list[str]:
    said = [
        f"{file['name']:<44} {file['found'] or 'not found'}",
        f"    {file['part']}; licence: {file['licence']}",
    ]
    if file["found"]:
        hashed = file.get("sha256") or "not computed yet (--hashes)"
        verdict = {True: ", as published", None: "", False: ", NOT as published"}[file.get("as_published")]
        said.append(f"    sha256: {hashed}{verdict}")
    return said


# ---- looking ---------------------------------------------------------------------------------------------


def _library(name: str, library: Library) -> dict[str, Any]:
    entry = {"import": name, "package": library.packages[0], "version": None, "lost": library.lost}
    if importlib.util.find_spec(name) is None:
        return {**entry, "needed": library.needed}
    if name == "torch":  # its wheel's name does not tell for which CUDA it was built, it does
        import torch

        return {**entry, "version": str(torch.__version__), "needed": library.needed}
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
    """Every pose backend, opened to see that it works and what it runs on; "auto" uses the first that does."""
    from ..pose_align.detector import available_backends

    found: list[dict[str, Any]] = []
    for state in available_backends(folders):
        usable, detail = state.usable, state.detail
        if usable:
            usable, detail = _opened(state.name, folders, detail)
        used = usable and not any(one["used"] for one in found)
        found.append({"name": state.name, "usable": usable, "used": used, "detail": detail})
    return found


def _opened(name: str, folders: Sequence[Path], detail: str) -> tuple[bool, str]:
    try:
        return True, f"runs on {open_detector(name, folders).provider}. {detail}"
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        return False, str(error)


def _file(row: models.ModelFile, searched: Sequence[Path], book: HashBook, hashes: bool) -> dict[str, Any]:
    hit = models.find(row.name, searched)
    entry: dict[str, Any] = {name: getattr(row, name) for name in ("name", "part", "licence", "page")}
    entry["found"] = None if hit is None else str(hit)
    if hit is None:
        return entry
    size = entry["bytes"] = hit.stat().st_size
    if row.size is not None and size != row.size:
        return {**entry, "problem": f"has {size} bytes instead of {row.size}"}
    digest = book.of(hit) if hashes or size <= SMALL else book.known(hit)
    if digest is not None:
        entry["sha256"] = digest
    if digest is not None and row.sha256 is not None:
        entry["as_published"] = digest == row.sha256
        if digest != row.sha256:
            entry["problem"] = "is not the published file (sha256)"
    return entry


def _system(system: Any, folders: Sequence[Path]) -> dict[str, Any]:
    """Whether all files of a system are there, or what is lacking."""
    try:
        find_files(system, Weights(folders=tuple(folders)))
    except FileNotFoundError as error:
        return {"name": system, "ready": False, "detail": str(error)}
    return {"name": system, "ready": True, "detail": ""}


def _advice(
    libraries: list[dict],
    backends: list[dict],
    files: list[dict],
    systems: list[dict],
    folders: Sequence[Path],
) -> list[str]:
    """What to do, the most urgent first; each line holds one command or one action."""
    missing = [one["package"] for one in libraries if one["version"] is None and one["needed"]]
    advice = [f"Install what is missing: {INSTALL} {' '.join(missing)}"] if missing else []
    if not folders:
        # ``default_folders`` finds it there from then on.
        advice.append("No models folder was found; name it with --models, or make one here: mkdir models")
    for file in (file for file in files if "problem" in file):
        again = _fetching(file["name"], folders, "--overwrite")
        advice.append(f"{file['found']} {file['problem']}; fetch it again: {again}")
    if not any(backend["usable"] for backend in backends):
        advice.append(f"No pose detector can be used; without a download: {MEDIAPIPE}")
        advice.append(f"Or, for several people: {_fetching('dwpose', folders)}")
    for system in (system for system in systems if not system["ready"]):
        advice.append(f"{system['name']} lacks published files: {_fetching(system['name'], folders)}")
    if not any(file["found"] for file in files):
        advice.append("No published weights were found; everything still runs with --weights demo.")
    return advice or ["Nothing is missing."]


def _fetching(what: str, folders: Sequence[Path], *options: str) -> str:
    """The download command for a group or a file, with the library and the flag that it asks for."""
    rows = [row for row in models.FILES if what in (row.group, row.name)]
    terms = ["--accept-licence"] if any(row.research_only for row in rows) else []
    home = folders[0] if folders else Path("models")
    hubs = sorted({download.library_of(row) for row in rows})
    lacking = [hub for hub in hubs if importlib.util.find_spec(hub) is None]
    install = f"{INSTALL} {' '.join(lacking)} && " if lacking else ""
    command = " ".join([OURSELVES, "download", what, "--models", f'"{home}"', *terms, *options])
    return f"{install}{command}{' (research only: read the terms first)' if terms else ''}"
