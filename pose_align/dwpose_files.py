"""Where DWPose's two files may lie, and what to say when they do not."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

ONNXRUNTIME_MISSING = (
    "DWPose runs through onnxruntime, which is not installed: pip install onnxruntime-gpu "
    "(onnxruntime on a Mac), or choose the mediapipe detector."
)


@dataclass(frozen=True)
class ModelFile:
    """A published file: names under which it is known, best first, and the size in bytes of the first."""

    names: tuple[str, ...]
    size: int
    sha256: str


@dataclass(frozen=True)
class ModelFiles:
    """Where DWPose's two networks lie."""

    person: Path
    pose: Path


PERSON_FILE = ModelFile(
    ("yolox_l.onnx",), 216_746_733, "7860ae79de6c89a3c1eb72ae9a2756c0ccfbe04b7791bb5880afabd97855a411"
)
# The second name is the 256x192 network; its input size is read from the file.
POSE_FILE = ModelFile(
    ("dw-ll_ucoco_384.onnx", "dw-ll_ucoco.onnx"),
    134_399_116,
    "724f4ff2439ed61afb86fb8a1951ec39c6220682803b4a8bd4f598cd913b1843",
)
LICENCE = "Apache-2.0 by its model page; trained on data sets with terms of their own"
PAGE = "https://huggingface.co/yzd-v/DWPose"

AUX_PACK = "comfyui_controlnet_aux"
# Below a models folder, an annotator folder, a pack's own folder or custom_nodes, in this order.
PLACES = (
    "",
    "dwpose",
    "checkpoints",
    "yzd-v/DWPose",
    "hr16/UnJIT-DWPose",
    "hr16/yolox-onnx",
    "ckpts/yzd-v/DWPose",
    "ckpts/hr16/UnJIT-DWPose",
    f"{AUX_PACK}/ckpts/yzd-v/DWPose",
    f"{AUX_PACK}/ckpts/hr16/UnJIT-DWPose",
    "ComfyUI-UniAnimate-W/checkpoints",
    "UniAnimate/checkpoints",
    "UniAnimate-DiT/checkpoints",
    "ComfyUI-MimicMotionWrapper/models/DWPose",
    "ComfyUI-WanVideoWrapper/unianimate/models/DWPose",
)


def find_models(folders: Sequence[str | Path] = ()) -> ModelFiles:
    """Find DWPose's two files, also where other packs keep them; names match without regard to case.

    folders: models folders, custom_nodes folders or ComfyUI's root, in order of preference; after them the
    folder that AUX_ANNOTATOR_CKPTS_PATH names and the one in comfyui_controlnet_aux's config.yaml.
    Raises FileNotFoundError with the names, sizes, licence and page of what is missing.
    """
    roots = [root for folder in folders for root in _with_subfolders(Path(folder))]
    roots += _annotator_folders(roots)
    places = [place for root in roots for path in PLACES if (place := _below(root, path))]
    found = {file: _first_file(places, file.names) for file in (PERSON_FILE, POSE_FILE)}
    missing = [f"{file.names[0]} ({file.size / 1e6:.0f} MB)" for file, path in found.items() if path is None]
    if missing:
        where = str(folders[0]) if folders else "a folder that you name"
        raise FileNotFoundError(
            f"DWPose needs {' and '.join(missing)}: download from {PAGE} and put into {where}. "
            f"Licence: {LICENCE}."
        )
    return ModelFiles(found[PERSON_FILE], found[POSE_FILE])


def _with_subfolders(root: Path) -> list[Path]:
    """The folder itself, and where it is ComfyUI's root, its two folders that can hold the files."""
    return [root, *(found for name in ("models", "custom_nodes") if (found := _below(root, name)))]


def _annotator_folders(roots: Iterable[Path]) -> list[Path]:
    """The folders that the controlnet_aux pack was told to use."""
    named = os.environ.get("AUX_ANNOTATOR_CKPTS_PATH")
    found = [Path(named)] if named else []
    for config in filter(None, (_below(root, f"{AUX_PACK}/config.yaml") for root in roots)):
        text = config.read_text(encoding="utf-8", errors="replace")
        if match := re.search(r"^annotator_ckpts_path:\s*[\"']?([^\"'#\r\n]+)", text, re.MULTILINE):
            found.append(config.parent / match[1].strip())
    return found


def _below(folder: Path, path: str) -> Path | None:
    """``folder/path`` if it is there, its parts matched without regard to case."""
    for part in filter(None, path.split("/")):
        exact = folder / part
        folder = exact if exact.exists() else _named_like(folder, part)
        if folder is None:
            return None
    return folder if folder.exists() else None


def _named_like(folder: Path, name: str) -> Path | None:
    if not folder.is_dir():
        return None
    wanted = name.casefold()
    return next((entry for entry in sorted(folder.iterdir()) if entry.name.casefold() == wanted), None)


def _first_file(places: Sequence[Path], names: Sequence[str]) -> Path | None:
    candidates = (_below(place, name) for name in names for place in places if place.is_dir())
    return next((file for file in candidates if file is not None and file.is_file()), None)


def broken_file(path: Path, size: int) -> str:
    """A sentence about an ONNX file that does not open."""
    known = next((file for file in (PERSON_FILE, POSE_FILE) if file.names[0] == path.name.casefold()), None)
    if known and size != known.size:
        return f"{path} has {size} bytes instead of {known.size}: download it again from {PAGE}."
    return f"{path} ({size} bytes) cannot be opened as an ONNX network."
