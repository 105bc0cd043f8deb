"""ComfyUI's folders: model folders registered and searched, and the places of outputs and state.

What is searched for a model: the registered folders (so extra_model_paths.yaml works), then the
folders of neighbouring packs. Nothing is ever written there.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import folder_paths

from ..app import models, names

DEMO = "demo (embedded)"
"""The entry of every loader's list that needs no download."""

WEIGHTS = frozenset({".safetensors", ".sft", ".ckpt", ".pth", ".pt", ".bin"})
EXTENSIONS = {"unianimate": WEIGHTS, "xdyna": WEIGHTS, "dwpose": frozenset({".onnx"})}


def register() -> None:
    """Give ComfyUI our model folder ids; entries that are there (extra_model_paths.yaml) stay first."""
    for name in models.FOLDERS:
        folder_paths.add_model_folder_path(name, str(Path(folder_paths.models_dir) / name))
        paths, extensions = folder_paths.folder_names_and_paths[name]
        # A name new to ComfyUI comes with no extensions, which would list every file of the folder.
        folder_paths.folder_names_and_paths[name] = (paths, set(extensions) | EXTENSIONS[name])


def choices(*folders: str, demo: bool = True) -> list[str]:
    """What a loader's list offers: the demo, the files of the folder ids, known files of neighbouring packs.

    A name stands once; ``locate`` finds the file wherever it lies.
    """
    listed = [name for folder in _registered(folders) for name in folder_paths.get_filename_list(folder)]
    elsewhere = _outside(folders)
    known = [
        file.name for file in models.FILES if file.folder in folders and models.find(file.name, elsewhere)
    ]
    return list(dict.fromkeys(([DEMO] if demo else []) + listed + known))


def locate(choice: str, *folders: str) -> Path:
    """The file that a choice of the list means.

    Raises FileNotFoundError that says what the file is, where to get it and where to put it, and ValueError for
    what is no name.
    """
    _check_name(choice)
    for folder in _registered(folders) if _can_be_a_name(choice) else ():
        path = folder_paths.get_full_path(folder, choice)
        if path is not None:
            return Path(path)
    inside = [Path(path) for folder in _registered(folders) for path in folder_paths.get_folder_paths(folder)]
    elsewhere = _outside(folders)
    hit = models.find(choice, inside + elsewhere)
    if hit is None:
        raise FileNotFoundError(models.missing(choice, inside + elsewhere, _home(choice, folders)))
    return hit


def stamp(choice: str, *folders: str) -> str:
    """For ``fingerprint_inputs`` of a loader: changes when the file does; never raises."""
    if choice == DEMO:
        return DEMO
    try:
        path = locate(choice, *folders)
        state = path.stat()
    except (OSError, ValueError):
        return f"{choice} is missing"
    return f"{path} {state.st_size} {state.st_mtime_ns}"


@dataclass(frozen=True)
class SavePlace:
    """Where a file goes: an existing folder, a free name without suffix, the folder as the page knows it."""

    folder: Path
    name: str
    subfolder: str


def save_place(prefix: str, width: int = 0, height: int = 0) -> SavePlace:
    """The next free name in ComfyUI's output folder; a prefix may hold folders, %width%, %height% etc.

    Raises ValueError for a prefix that Windows would refuse, or that leads out of the folder, by a link too.
    """
    names.check_prefix(prefix)
    root = Path(folder_paths.get_output_directory())
    # ComfyUI 0.3.64 looks at the words alone, and would follow a link (and make folders behind it).
    if not (root / prefix).parent.resolve().is_relative_to(root.resolve()):
        raise ValueError(f"{prefix!r} leads outside the output folder {root}; give a name that stays inside.")
    folder, name, number, subfolder, _ = folder_paths.get_save_image_path(
        prefix, folder_paths.get_output_directory(), width, height
    )
    return SavePlace(Path(folder), f"{name}_{number:05}_", subfolder)


def folders(*ids: str) -> list[Path]:
    """Every folder in which files of these ids may lie, neighbours' among them."""
    inside = [Path(path) for folder in _registered(ids) for path in folder_paths.get_folder_paths(folder)]
    return inside + _outside(ids)


def everywhere() -> list[Path]:
    """ComfyUI's own models folder, then every folder in which a file of the table may lie."""
    from ..app.networks import PLACES

    return list(dict.fromkeys([Path(folder_paths.models_dir), *folders(*PLACES)]))


def input_files(suffixes: Sequence[str]) -> list[str]:
    """Names of the files of ComfyUI's input folder, sub-folders included, that end in one of the suffixes."""
    root = Path(folder_paths.get_input_directory())
    found = (file for file in root.rglob("*") if file.is_file() and file.suffix.lower() in suffixes)
    return sorted(file.relative_to(root).as_posix() for file in found)


def input_file(name: str) -> Path:
    """A file of the input folder by its name; FileNotFoundError where it is missing or leads out of the folder."""
    _check_name(name)
    root = Path(folder_paths.get_input_directory())
    file = models.below(root, name, confined=True)
    if file is None or not file.is_file():
        raise FileNotFoundError(f"There is no file {name!r} in ComfyUI's input folder {root}.")
    return file


def input_stamp(name: str) -> str:
    """For ``fingerprint_inputs``: changes when a file of the input folder does; never raises."""
    try:
        state = input_file(name).stat()
    except (OSError, ValueError):
        return f"{name} is missing"
    return f"{name} {state.st_size} {state.st_mtime_ns}"


def _check_name(name: object) -> None:
    """ComfyUI 0.3.64 hands on whatever a request holds in the place of a list's entry."""
    if not isinstance(name, str):
        raise ValueError(
            f"A file is chosen by its name; got {str(name)[:80]!r} of type {type(name).__name__}."
        )


def _can_be_a_name(choice: str) -> bool:
    """Whether a file can have it: ComfyUI's look-up trips over a zero byte and over half a letter."""
    try:
        return b"\0" not in os.fsencode(choice)
    except UnicodeEncodeError:
        return False


def user_folder() -> Path:
    """ComfyUI's user directory, below which caches and resumable runs live (``app.state.place``)."""
    return Path(folder_paths.get_user_directory())


def _registered(folders: Sequence[str]) -> list[str]:
    """Those of the ids that ComfyUI knows: some belong to packs that may not be installed."""
    return [name for name in folders if name in folder_paths.folder_names_and_paths]


def _outside(folders: Sequence[str]) -> list[Path]:
    """Where else files of these ids may lie: folders of ids without a pack, other packs' own folders."""
    unregistered = [name for name in folders if name not in folder_paths.folder_names_and_paths]
    packs = models.neighbours(Path(path) for path in folder_paths.get_folder_paths("custom_nodes"))
    return [Path(folder_paths.models_dir) / name for name in unregistered] + packs


def _home(choice: str, folders: Sequence[str]) -> Path:
    """Where the file belongs: a known one in its own folder, others in the first of ours that is looked at."""
    row = models.described(choice)
    ours = next((name for name in folders if name in models.FOLDERS), folders[0])
    return Path(folder_paths.models_dir) / (row.folder if row else ours)
