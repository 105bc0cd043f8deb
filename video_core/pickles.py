"""Pickled checkpoints, read without running anything that is in them.

Two locks, either of which is enough. ``imported_names`` walks the pickle's opcodes and compares every
name that it would import with a table; ``read_pickle`` then lets torch's own weights-only unpickler
build the tensors, which accepts a similar table and no code. What lightning leaves in its files
(callbacks, numpy scalars) becomes an ``Inert`` object that ignores whatever it is given.
"""

from __future__ import annotations

import io
import mmap
import os
import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from .images import one_line, printable

ZIP_MAGIC = b"PK\x03\x04"
PICKLE_LIMIT = 1 << 24
"""Bytes of structure (names, shapes) that a checkpoint may have; the published ones have under 1 MB."""

DIRECTORY_LIMIT = 1 << 20
"""Bytes of an archive's list of its entries, of which each is an object; the published ones have under 200 kB."""

OPCODE_LIMIT = 1 << 20
"""Steps of a pickle: one byte can make an object of 200, so that a small file could fill the memory."""

NESTED_LIMIT = 8
"""Tuples in tuples: one that holds another twice, and so on, takes for ever where it is a dictionary's key. Those of
a tensor lie in one."""

NAMES_LIMIT = 1 << 22
"""Letters of all values' names, dictionaries' before them, and NAME_COST for each: dictionaries may lie in each
other many times, or in themselves. Those of the published files have under 1 MB."""
NAME_COST = 32

SAFE_TORCH = (2, 6)
"""From here on a weights-only load runs nothing (CVE-2025-32434), and can be told of inert classes."""

LEGACY_PICKLES = 5
"""Pickles in a file of torch < 1.6: magic number, protocol, system, objects, storage keys."""

STORAGES = frozenset(
    f"torch {kind}Storage"
    for kind in (
        "Float", "Half", "BFloat16", "Double", "Long", "Int", "Short", "Char", "Byte", "Bool",
        "Untyped", "Float8_e4m3fn", "Float8_e5m2",
    )
)  # fmt: skip

TENSOR_NAMES = STORAGES | {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    "torch.nn.parameter Parameter",
    "torch.storage UntypedStorage",
    "torch.storage TypedStorage",
    "torch Size",
    "torch float32",
    "torch float16",
    "torch bfloat16",
    "torch float64",
    "torch int64",
    "_codecs encode",
}
"""What tensors, dictionaries, sizes and byte strings need."""

INERT_NAMES = frozenset(
    {
        "pytorch_lightning.callbacks.model_checkpoint ModelCheckpoint",
        "lightning.pytorch.callbacks.model_checkpoint ModelCheckpoint",
        "numpy.core.multiarray scalar",
        "numpy._core.multiarray scalar",
        "numpy dtype",
        "numpy.dtypes Float64DType",
        "argparse Namespace",
    }
)
"""Bookkeeping that trainers leave beside the weights; becomes ``Inert``, the real class is not looked up."""


class PickleRefused(Exception):
    """A pickle that is not a plain container of tensors; the message is the reason, a clause."""


class Inert:
    """Stands for an object of a class that is not loaded: accepts any arguments and state, keeps nothing."""

    def __new__(cls, *_: Any) -> Inert:
        return super().__new__(cls)

    def __setstate__(self, _: Any) -> None:
        """Nothing of the state is kept."""


def read_pickle(path: Path) -> Any:
    """The object in a ``torch.save`` file; tensors of a zip-format file are mapped, not read.

    Raises PickleRefused with the reason, OSError where the file cannot be read.
    """
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < SAFE_TORCH:
        raise PickleRefused(
            "torch before 2.6 cannot read pickles safely; update it, or give a .safetensors file"
        )
    zipped = _is_zip(path)
    for name in _imports(path, zipped):
        if name not in TENSOR_NAMES and name not in INERT_NAMES:
            raise PickleRefused(
                f"it wants to import {printable(name.replace(' ', '.')[:160])}, and weights need no code; "
                "nothing was run"
            )
    inert = [(Inert, name.replace(" ", ".")) for name in INERT_NAMES]
    try:
        with torch.serialization.safe_globals(inert):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except (OSError, MemoryError):
        raise
    # torch reports damage in many ways: UnpicklingError, EOFError, RuntimeError, KeyError, struct.error, ...
    except Exception as error:
        raise PickleRefused(f"it is damaged or no torch checkpoint ({_first_line(error)})") from error


def tensors_in(loaded: Any) -> dict[str, Tensor]:
    """Every tensor of a loaded file by name: ``state_dict`` unwrapped, nested dictionaries joined by dots."""
    if isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, dict):
        raise PickleRefused(f"it holds a {type(loaded).__name__}, not a dictionary of tensors")
    return dict(_flattened(loaded, "", [NAMES_LIMIT]))


def _flattened(branch: dict, prefix: str, left: list[int], depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """left: [letters that names may still have]."""
    for key, value in branch.items():
        left[0] -= len(prefix) + NAME_COST
        if isinstance(value, Tensor | dict):
            name = f"{prefix}{key}"
            left[0] -= len(name)
        if left[0] < 0:
            raise PickleRefused("its names are longer, all together, than any real model's")
        if isinstance(value, Tensor):
            yield name, value
        elif isinstance(value, dict) and depth < 8:
            yield from _flattened(value, f"{name}.", left, depth + 1)


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == ZIP_MAGIC


def _imports(path: Path, zipped: bool) -> set[str]:
    """Every ``"module name"`` that the file's pickles would import; nothing is imported here."""
    try:
        if zipped:
            return imported_names(io.BytesIO(_structure(path)), pickles=1)
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            return imported_names(mapped, pickles=LEGACY_PICKLES)
    except (PickleRefused, OSError, MemoryError):
        raise
    # zipfile and pickletools report damage in many ways: BadZipFile, RuntimeError (encrypted), struct.error, ...
    except Exception as error:
        raise PickleRefused(f"it is damaged or no torch checkpoint ({_first_line(error)})") from error


def _structure(path: Path) -> bytes:
    """``data.pkl`` of a zip-format checkpoint, after a look at the archive's own honesty."""
    with _Bounded(path) as file, zipfile.ZipFile(file) as archive:
        file.most = path.stat().st_size
        entries = archive.infolist()
        # torch stores and never compresses; so whoever compresses wants to unpack more than the file holds.
        if any(e.compress_type != zipfile.ZIP_STORED or e.file_size != e.compress_size for e in entries):
            raise PickleRefused("its archive is compressed, as torch never does it (a zip bomb is)")
        if sum(e.file_size for e in entries) > path.stat().st_size:
            raise PickleRefused("its archive claims more data than the file holds")
        found = [e for e in entries if e.filename.rpartition("/")[2] == "data.pkl"]
        if len(found) != 1:
            raise PickleRefused("it is a zip archive, but not one that torch.save wrote")
        if found[0].file_size > PICKLE_LIMIT:
            raise PickleRefused("its list of tensors is larger than any real model needs")
        return archive.read(found[0])


class _Bounded(io.FileIO):
    """A file of which no more than ``most`` bytes are read at once: an archive's list is as long as it says."""

    most = DIRECTORY_LIMIT

    def read(self, size: int | None = -1) -> bytes:
        """See ``io.FileIO``; PickleRefused where it is too much."""
        asked = os.fstat(self.fileno()).st_size - self.tell() if size is None or size < 0 else size
        if asked > self.most:
            raise PickleRefused("its archive lists more entries than any real model needs")
        return super().read(size)


def imported_names(file: BinaryIO | mmap.mmap, pickles: int) -> set[str]:
    """Names imported by so many consecutive pickles, read as opcodes; PickleRefused for tuples without end."""
    names: set[str] = set()
    for _ in range(pickles):
        nesting = _Nesting()
        for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if count > OPCODE_LIMIT:
                raise PickleRefused("its list of tensors is longer than any real model needs")
            if opcode.name in ("GLOBAL", "INST"):
                names.add(str(argument))
            elif opcode.name in ("STACK_GLOBAL", "EXT1", "EXT2", "EXT4"):
                # torch writes protocol 2, which has no such imports; their names can be hidden from a scan.
                names.add(f"a hidden name ({opcode.name})")
            nesting.follow(opcode, argument)
    return names


class _Nesting:
    """How deeply tuples lie in tuples, followed over a pickle's opcodes as its reader's stack and memo."""

    def __init__(self) -> None:
        # A level for every value, None for a mark.
        self._stack: list[int | None] = []
        self._memo: dict[object, int | None] = {}

    def follow(self, opcode: pickletools.OpcodeInfo, argument: Any) -> None:
        """One step; PickleRefused where it goes too deep, IndexError or KeyError for a step that cannot be made."""
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self._memo[len(self._memo) if opcode.name == "MEMOIZE" else argument] = self._stack[-1]
            return
        taken = self._taken([one.name for one in opcode.stack_before])
        level = 0
        if opcode.name in ("GET", "BINGET", "LONG_BINGET"):
            level = self._memo[argument]
        elif opcode.name == "DUP":
            level = taken[0]
        elif opcode.name.startswith("TUPLE"):
            level = 1 + max((one or 0 for one in taken), default=0)
            if level > NESTED_LIMIT:
                raise PickleRefused("its tuples lie in each other deeper than any real model's")
        for one in opcode.stack_after:
            self._stack.append(None if one.name == "mark" else level)

    def _taken(self, before: list[str]) -> list[int | None]:
        """What the step takes off the stack: down to a mark, or so many."""
        taken = []
        if "mark" in before:
            while (top := self._stack.pop()) is not None:
                taken.append(top)
            before = before[: before.index("mark")]
        return taken + [self._stack.pop() for _ in before]


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {one_line(error)[:160]}" if str(error).strip() else type(error).__name__
