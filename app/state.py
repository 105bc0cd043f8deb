"""What outlives a run: the pose cache and the place of resumable runs, their keys and their bound.

The place is ``$XDUA_CACHE``, else the folder the host names (ComfyUI's user directory), else the
platform's user cache. Nothing is written before somebody stores something.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..pose_align.interchange import load_poses, save_poses
from ..pose_align.pose import PoseSequence

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..video_core.progress import Reached
    from ..video_core.storage import Storage

FORMAT = 2
"""Raised when what a key stands for changes; older entries are then never read again."""

LIMIT_BYTES = 10 * 1024**3

POSES, RUNS, CLIPS = "poses", "runs", "clips"
"""Folders of the place: one file per clip, one folder per run, and what a long run has on disk while it lasts."""

MANIFEST = "manifest.json"

BLOCK = 2**20
"""Bytes of a state that are written or read at a time: a long clip's need not fit into memory."""

OLD_DAYS = 7.0
"""After which a run that nobody went on with is forgotten, where finished ones are kept too."""

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
    """64 hex digits of a file's bytes, or of the names and bytes of a folder's files.

    Raises OSError that names the file, and VideoError (a ValueError) for what is no regular file.
    """
    from ..video_core.asides import errors_name
    from ..video_core.images import opened_file

    digest = hashlib.sha256()
    for file in sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]:
        if path.is_dir():
            # A name need not be UTF-8 where a system takes any bytes.
            digest.update(os.fsencode(file.name) + b"\0")
        with opened_file(file) as stream, errors_name(file):
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def bound(*folders: Path, limit_bytes: int = LIMIT_BYTES, spared: Path | None = None) -> int:
    """Delete what was used longest ago until at most ``limit_bytes`` are held; returns the bytes freed.

    folders: of files, or of one folder per run, which goes as a whole. spared: a run that is going on.
    """
    entries = sorted(filter(None, map(_measured, _entries(folders))), key=lambda entry: entry[0])
    held = sum(size for _, size, _ in entries)
    freed = 0
    for _, size, entry in entries:
        if held - freed <= limit_bytes:
            break
        if entry != spared:
            _delete(entry)
            freed += size
    return freed


def _entries(folders: Iterable[Path]) -> list[Path]:
    return [entry for folder in folders if folder.is_dir() for entry in folder.iterdir()]


def _measured(entry: Path) -> tuple[float, int, Path] | None:
    """(time of the last use, bytes, entry); None for what another process has just deleted."""
    try:
        stats = [file.stat() for file in ([*entry.iterdir()] if entry.is_dir() else [entry])]
    except FileNotFoundError:
        return None
    return max((stat.st_mtime for stat in stats), default=0.0), sum(stat.st_size for stat in stats), entry


def _delete(entry: Path) -> None:
    if entry.is_dir():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        entry.unlink(missing_ok=True)


@dataclass(frozen=True)
class PoseCache:
    """Extracted poses by the hash of the video's bytes and the settings they were extracted with."""

    folder: Path

    @staticmethod
    def at(root: Path) -> PoseCache:
        return PoseCache(root / POSES)

    def find(self, key: str) -> PoseSequence | None:
        """The stored poses, or None; an entry that cannot be read counts as absent and is removed."""
        file = self.folder / f"{key}.npz"
        try:
            if not file.is_file():
                return None
            poses = load_poses(file)
        except (ValueError, OSError) as error:
            log.warning("The cached poses in %s could not be read (%s); extracting them anew.", file, error)
            # A cache that is read only keeps the entry, and this is said again the next time.
            with suppress(OSError):
                file.unlink(missing_ok=True)
            return None
        # Of a cache that is read only nothing is ever deleted, so when it was used does not matter.
        with suppress(OSError):
            os.utime(file)
        return poses

    def store(self, key: str, poses: PoseSequence) -> None:
        """Keep the poses; a cache that cannot be written costs a warning, never the result."""
        try:
            save_poses(poses, self.folder / f"{key}.npz")
            bound(self.folder, self.folder.with_name(RUNS))
        except OSError as error:
            log.warning("The poses could not be cached in %s: %s", self.folder, error)


# ---- resumable runs ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Runs:
    """Long runs that can be gone on with: a folder each, by the key of everything that decides the result.

    every: so many steps are done before a state is written; the finished parts of a run always are.
    """

    folder: Path
    every: int = 1

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"A state is kept every so many steps, 1 or more; {self.every} was given.")

    @staticmethod
    def at(root: Path, every: int = 1) -> Runs:
        return Runs(root / RUNS, every)

    def forget_old(self, days: float = OLD_DAYS) -> None:
        """Delete runs that nobody went on with for so long."""
        for used, _, entry in filter(None, map(_measured, _entries([self.folder]))):
            if used < time.time() - 86400 * days:
                _delete(entry)

    def run(self, *parts: object) -> Run:
        """The run that these parts decide (see ``key_of``; the software's versions are added)."""
        return Run(self.folder / key_of(_software(), *parts)[:32], self.every)


@dataclass
class Run:
    """What is kept of one run: a ``Journal``, see ``video_core.progress``.

    The manifest alone says what counts: it names the files of the last step and of the finished parts, with
    their hashes. Every file is written aside and renamed, the manifest last; what a kill leaves behind is
    named nowhere, and a file that is not what the manifest says counts as absent. A state's file is its tensors'
    bytes, one after the other; the manifest knows their names, types and shapes.

    storage: where tensors that are read lie; None is in memory.
    """

    folder: Path
    every: int = 1
    storage: Storage | None = field(default=None, repr=False)
    _broken: bool = field(default=False, repr=False)

    def part(self, number: int) -> Part:
        """See ``Journal``."""
        return Part(self, number)

    def clean(self) -> None:
        """The run's result is safe: nothing of it need be kept."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @cached_property
    def _manifest(self) -> dict[str, dict[str, Any]]:
        """Name of an entry -> its file, the file's hash, the tensors in it, and what is to be known of it."""
        try:
            return dict(json.loads((self.folder / MANIFEST).read_text(encoding="utf-8"))["entries"])
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("The run kept in %s could not be read (%s); starting anew.", self.folder, error)
            return {}

    def read(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """An entry's tensors and what is known of them; None where it is missing or not whole."""
        import torch

        from ..video_core.storage import IN_MEMORY

        entry, storage = self._manifest.get(name), self.storage or IN_MEMORY
        if entry is None:
            return None
        digest, tensors = hashlib.sha256(), {}
        try:
            with (self.folder / entry["file"]).open("rb") as file:
                for key, dtype, shape in entry["tensors"]:
                    tensors[key] = storage.zeros(shape, getattr(torch, dtype))
                    for block in self._blocks(tensors[key]):
                        file.readinto(block)
                        digest.update(block)
        except (OSError, KeyError, TypeError, ValueError):
            return None
        if digest.hexdigest() != entry["sha256"]:
            log.warning("%s in %s is damaged and not used.", entry["file"], self.folder)
            return None
        return tensors, entry

    def write(self, name: str, tensors: Mapping[str, Tensor], *, without: str = "", **known: object) -> None:
        """Keep tensors under a name in the place of what was kept there; drop the entry ``without``.

        A disk that does not take them costs a warning, never the result.
        """
        whole = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        listed = [(key, str(x.dtype).removeprefix("torch."), list(x.shape)) for key, x in whole.items()]
        entries = {key: entry for key, entry in self._manifest.items() if key != without}
        digest = hashlib.sha256()

        def blocks() -> Iterator[memoryview]:
            for tensor in whole.values():
                for block in self._blocks(tensor):
                    digest.update(block)
                    yield block

        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = _write_aside(self.folder, blocks(), lambda: f"{name}-{digest.hexdigest()[:16]}.bin")
            entries[name] = {"file": file, "sha256": digest.hexdigest(), "tensors": listed, **known}
            text = json.dumps({"format": FORMAT, "entries": entries})
            _write_aside(self.folder, [text.encode()], lambda: MANIFEST)
            self._manifest.clear()
            self._manifest.update(entries)
            self._sweep()
            root = self.folder.parent.parent
            bound(root / POSES, root / RUNS, spared=self.folder)
        except OSError as error:
            if not self._broken:
                log.warning(
                    "The run could not be kept in %s (%s); it goes on all the same.",
                    self.folder,
                    error.strerror or error,
                )
            self._broken = True

    def _blocks(self, tensor: Tensor) -> Iterator[memoryview]:
        """A contiguous tensor's own bytes on the CPU, some at a time."""
        import torch

        bytes_of = memoryview(tensor.reshape(-1).view(torch.uint8).numpy())
        for first in range(0, len(bytes_of), BLOCK):
            yield bytes_of[first : first + BLOCK]
            if self.storage is not None:
                self.storage.tidy()

    def _sweep(self) -> None:
        """Delete what the manifest does not name: earlier states, and what a kill left."""
        named = {MANIFEST, *(entry["file"] for entry in self._manifest.values())}
        for file in self.folder.iterdir():
            if file.name not in named:
                file.unlink(missing_ok=True)


@dataclass(frozen=True)
class Part:
    """What is kept of one part of a run: a ``Progress``, see ``video_core.progress``."""

    run: Run
    number: int

    def reached(self) -> Reached | None:
        """See ``Progress``."""
        from ..video_core.progress import Reached

        found = self.run.read(STEP)
        if found is None or found[1]["part"] != self.number:
            return None
        tensors, known = found
        latents = tensors.pop(LATENTS)
        log.info(
            "Going on after step %d of part %d, kept in %s.", known["done"], self.number, self.run.folder
        )
        return Reached(known["done"], latents, tensors)

    def keep(self, reached: Reached) -> None:
        """See ``Progress``."""
        if reached.done % self.run.every == 0:
            tensors = {LATENTS: reached.latents, **reached.memory}
            self.run.write(STEP, tensors, part=self.number, done=reached.done)

    def finished(self) -> Tensor | None:
        """See ``Progress``."""
        found = self.run.read(self._name)
        return None if found is None else found[0][LATENTS]

    def finish(self, latents: Tensor) -> None:
        """See ``Progress``."""
        self.run.write(self._name, {LATENTS: latents}, without=STEP)

    @property
    def _name(self) -> str:
        return f"part{self.number:05}"


STEP, LATENTS = "step", "latents"
"""Name of the entry that is a state between two steps, and of the tensor that every entry has."""


def fingerprint(*networks: nn.Module) -> str:
    """64 hex digits of networks' weights: every tensor's name, shape, type and 64 values spread over it.

    What changes a network (another file, a LoRA, another precision) changes these; billions of values need
    not be read.
    """
    import torch

    digest = hashlib.sha256()
    for network in networks:
        for name, tensor in network.state_dict().items():
            # Eight bits are not indexed as numbers everywhere.
            plain = tensor.detach().view(torch.uint8) if tensor.itemsize == 1 else tensor.detach()
            flat = plain.flatten()
            chosen = torch.linspace(0, max(len(flat) - 1, 0), min(len(flat), 64)).long()
            values = flat[chosen.to(flat.device)].double().cpu().numpy()
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(values.tobytes())
    return digest.hexdigest()


def identity(thing: object) -> str:
    """64 hex digits of all that decides what is computed with it: tensors and arrays by their bytes, networks by
    their weights, dataclasses and sequences by their parts, pictures that are made when they are asked for by what
    they show; other things as JSON or text.
    """
    import torch

    if isinstance(thing, torch.Tensor):
        return digest_of(thing)
    if isinstance(thing, torch.nn.Module):
        return key_of(type(thing).__name__, fingerprint(thing))
    if isinstance(thing, np.ndarray):
        return key_of(thing)
    if is_dataclass(thing) and not hasattr(thing, "shape"):
        parts = [(field.name, identity(getattr(thing, field.name))) for field in fields(thing)]
        return key_of(type(thing).__name__, parts)
    if isinstance(thing, (list, tuple)):
        return key_of([identity(part) for part in thing])
    if hasattr(thing, "shape"):
        return key_of([key_of(np.asarray(thing[[number]])) for number in range(len(thing))])
    return key_of(thing)


def digest_of(*tensors: Tensor | None) -> str:
    """64 hex digits of tensors' bytes, types and shapes."""
    import torch

    digest = hashlib.sha256()
    for tensor in tensors:
        if tensor is None:
            digest.update(b"none")
            continue
        whole = tensor.detach().cpu().contiguous()
        digest.update(f"{whole.dtype} {tuple(whole.shape)}".encode())
        digest.update(whole.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _software() -> list[str]:
    """What computes: another version need not give the same bits, so it starts anew."""
    import torch

    return [torch.__version__, str(torch.get_num_threads())]


def _write_aside(folder: Path, blocks: Iterable[bytes | memoryview], name: Callable[[], str]) -> str:
    """A file that is whole or not there: written under another name, then renamed. name: asked when all is written.

    Returns the name.
    """
    handle, aside = tempfile.mkstemp(suffix=".part", dir=folder)
    try:
        with os.fdopen(handle, "wb") as stream:
            for block in blocks:
                stream.write(block)
        Path(aside).replace(folder / name())
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise
    return name()
