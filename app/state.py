"""What outlives a run: the pose cache and the place of resumable runs, their keys and their bound.

The place is ``$XDUA_CACHE``, else the folder the host names (ComfyUI's user directory), else the
platform's user cache. Nothing is written before somebody stores something.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..pose_align.interchange import load_poses, save_poses
from ..pose_align.pose import PoseSequence

FORMAT = 1
"""Raised when what a key stands for changes; older entries are then never read again."""

LIMIT_BYTES = 10 * 1024**3

log = logging.getLogger(__name__)


def place(host_folder: Path | None = None) -> Path:
    """The folder that holds all state; it may not exist yet."""
    named = os.environ.get("XDUA_CACHE")
    if named:
        return Path(named).expanduser()
    if host_folder is not None:
        return host_folder / "xdyna-unianimate"
    import platformdirs

    return Path(platformdirs.user_cache_dir("xdyna-unianimate", appauthor=False))


def key_of(*parts: object) -> str:
    """64 hex digits of everything that decides a result: settings (JSON-able), arrays, bytes."""
    digest = hashlib.sha256(f"format {FORMAT}".encode())
    for part in parts:
        digest.update(b"\0")
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype}{part.shape}".encode())
            digest.update(np.ascontiguousarray(part).tobytes())
        elif isinstance(part, bytes):
            digest.update(part)
        else:
            digest.update(json.dumps(part, sort_keys=True, default=str).encode())
    return digest.hexdigest()


def content_of(path: Path) -> str:
    """64 hex digits of a file's bytes, or of the names and bytes of a folder's files."""
    digest = hashlib.sha256()
    for file in sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]:
        if path.is_dir():
            digest.update(file.name.encode() + b"\0")
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def bound(folder: Path, limit_bytes: int = LIMIT_BYTES) -> int:
    """Delete the files used longest ago until at most ``limit_bytes`` are held; returns the bytes freed."""
    files = [(f.stat(), f) for f in folder.rglob("*") if f.is_file()]
    held = sum(stat.st_size for stat, _ in files)
    freed = 0
    for stat, file in sorted(files, key=lambda entry: entry[0].st_mtime):
        if held - freed <= limit_bytes:
            break
        file.unlink(missing_ok=True)
        freed += stat.st_size
    return freed


@dataclass(frozen=True)
class PoseCache:
    """Extracted poses by the hash of the video's bytes and the settings they were extracted with."""

    folder: Path

    @staticmethod
    def at(root: Path) -> PoseCache:
        return PoseCache(root / "poses")

    def find(self, key: str) -> PoseSequence | None:
        """The stored poses, or None; an entry that cannot be read counts as absent and is removed."""
        file = self.folder / f"{key}.npz"
        if not file.is_file():
            return None
        try:
            poses = load_poses(file)
        except (ValueError, OSError) as error:
            log.warning("The cached poses in %s could not be read (%s); extracting them anew.", file, error)
            file.unlink(missing_ok=True)
            return None
        os.utime(file)
        return poses

    def store(self, key: str, poses: PoseSequence) -> None:
        """Keep the poses; a cache that cannot be written costs a warning, never the result."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(suffix=".npz", dir=self.folder)
            os.close(handle)
            save_poses(poses, name)
            Path(name).replace(self.folder / f"{key}.npz")
            bound(self.folder)
        except OSError as error:
            log.warning("The poses could not be cached in %s: %s", self.folder, error)
