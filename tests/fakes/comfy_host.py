"""Which ComfyUI the tests meet: the stand-ins, or the real program when COMFYUI_PATH is set."""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .executor import Executor, load_pack

STAND_INS = Path(__file__).parent / "stand_in"
OURS = ("comfy", "comfy_api", "comfyui_version", "folder_paths", "latent_preview")


@dataclass(frozen=True)
class Comfy:
    """A ComfyUI in this process.

    base: its throw-away directory with input, output, temp, user, models, custom_nodes.
    pack: our node classes by id; core: those of the core nodes that workflows use.
    """

    base: Path
    real: bool
    pack: dict[str, type]
    core: dict[str, type]

    @property
    def classes(self) -> dict[str, type]:
        return {**self.core, **self.pack}

    def executor(self) -> Executor:
        """One with nothing kept from earlier runs."""
        return Executor(self.classes)


def real_path() -> Path | None:
    """The real program's folder, where the environment names one."""
    return Path(os.environ["COMFYUI_PATH"]) if os.environ.get("COMFYUI_PATH") else None


@contextmanager
def running(base: Path) -> Iterator[Comfy]:
    """ComfyUI on the import path, its folders below ``base``, our pack loaded; stand-ins are undone."""
    for name in ("input", "output", "temp", "user", "models", "custom_nodes"):
        (base / name).mkdir(parents=True, exist_ok=True)
    real = real_path()
    root = real or STAND_INS
    sys.path.insert(0, str(root))
    try:
        core = _start_real(base) if real else _start_stand_ins(base)
        pack = load_pack(importlib.import_module("xdyna_unianimate.nodes").comfy_entrypoint)
        yield Comfy(base, real is not None, pack, core)
    finally:
        sys.path.remove(str(root))
        if not real:
            _forget()


def _start_stand_ins(base: Path) -> dict[str, type]:
    importlib.import_module("comfy.cli_args").args.base_directory = str(base)
    importlib.import_module("folder_paths")
    return importlib.import_module(".core_nodes", __package__).NODES


def _start_real(base: Path) -> dict[str, type]:
    arguments = ["main.py", "--cpu", "--base-directory", str(base), "--database-url", "sqlite:///:memory:"]
    kept, sys.argv = sys.argv, arguments
    try:
        importlib.import_module("comfy.options").enable_args_parsing()
        importlib.import_module("comfy.cli_args")
        nodes = importlib.import_module("nodes")
        video = importlib.import_module("comfy_extras.nodes_video")
    finally:
        sys.argv = kept
    for name in ("input", "output", "temp", "user"):
        getattr(importlib.import_module("folder_paths"), f"set_{name}_directory")(str(base / name))
    _hear_every_move()
    extension = asyncio.run(video.comfy_entrypoint())
    extra = {node.GET_SCHEMA().node_id: node for node in asyncio.run(extension.get_node_list())}
    return {**nodes.NODE_CLASS_MAPPINGS, **extra}


def _hear_every_move() -> None:
    """Newer versions pass on the moves of a bar ten times a second at most; tests count them."""
    utils = importlib.import_module("comfy.utils")
    for name in ("PROGRESS_THROTTLE_MIN_INTERVAL", "PROGRESS_THROTTLE_MIN_PERCENT"):
        if hasattr(utils, name):
            setattr(utils, name, 0)


def _forget() -> None:
    """Drop the stand-ins and what imported them, so that tests elsewhere see a Python without ComfyUI."""
    for name in list(sys.modules):
        root = name.split(".")[0]
        if root in OURS or name.startswith("xdyna_unianimate.nodes") or name.endswith("fakes.core_nodes"):
            del sys.modules[name]
    package = sys.modules.get("xdyna_unianimate")
    if package is not None and hasattr(package, "nodes"):
        del package.nodes
