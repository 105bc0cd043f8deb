"""Pickled checkpoints, read without running anything that is in them.

Two locks, either of which is enough. A ``_Rehearsal`` follows the pickle's opcodes, compares every name that it
would import with a table, and counts the memory that its objects will take; ``read_pickle`` then lets torch's own
weights-only unpickler build the tensors, which accepts a similar table and no code. What lightning leaves in its
files (callbacks, numpy scalars) becomes an ``Inert`` object that ignores whatever it is given.
"""

from __future__ import annotations

import io
import os
import pickletools
import struct
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
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
DIRECTORY_SHARE = 64
"""A larger file's list may be this part of it: 50,000 tensors take 4 MB."""

RECORD_LIMIT = 1 << 12
"""Bytes of an entry that is neither a tensor nor their list (version, byte order), which torch reads as a whole."""

ROOM = 22_000_000
"""Bytes that a pickle's objects may take in memory: one byte can make an object of 200, so that a small file could
fill it. 5,000 tensors take it."""
ROOM_SHARE = 5
"""A larger file's objects may take this part of it besides: a trainer's checkpoint of 50,000 tensors is reckoned at
220 MB (three times of what it takes), and is larger than a gigabyte."""

TEXT_LIMIT = 1 << 20
"""Bytes of one text in a pickle; a letter takes up to four in memory."""
LINE_LIMIT = 1000
"""Bytes of a module's or a class's name."""

NESTED_LIMIT = 8
"""Tuples in tuples: one that holds another twice, and so on, takes for ever where it is looked at as a whole. Those
of a tensor lie in one."""
KEY_LIMIT = 1000
"""Letters and items of a tuple that is a dictionary's key, and how many of those there may be: to find the place of
one, all of it is looked at, and of others that were made to share its place."""
KEY_NUMBERS = range(-(1 << 64), 1 << 64)
"""Whole numbers that are keys; of larger ones many share a place."""
MOST_DIMENSIONS = 64
"""Of a tensor: torch's own limit, which it checks in some operations only."""

NAMES_LIMIT = 7_000_000
"""Bytes of all values' names, dictionaries' before them, and NAME_COST for each: dictionaries may lie in each
other many times, or in themselves. Those of the published files have under 1 MB."""
NAME_COST = 32

SAFE_TORCH = (2, 6)
"""From here on a weights-only load runs nothing (CVE-2025-32434), and can be told of inert classes."""

LEGACY_PICKLES = 5
"""Pickles in a file of torch < 1.6: magic number, protocol, system, objects, storage keys."""

ITEM_BYTES = {
    f"torch {kind}Storage": size
    for size, kinds in {
        1: ("Char", "Byte", "Bool", "Untyped", "Float8_e4m3fn", "Float8_e5m2"),
        2: ("Half", "BFloat16", "Short"),
        4: ("Float", "Int"),
        8: ("Double", "Long"),
    }.items()
    for kind in kinds
} | {"torch.storage UntypedStorage": 1}
"""The kinds of storage, and the bytes of a number in each."""

TENSOR_NAMES = ITEM_BYTES.keys() | {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    "torch.nn.parameter Parameter",
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
    inert = [(Inert, name.replace(" ", ".")) for name in INERT_NAMES]
    try:
        _rehearse(path, zipped)
        with torch.serialization.safe_globals(inert):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except (PickleRefused, OSError, MemoryError):
        raise
    # Damage is reported in many ways: UnpicklingError, BadZipFile, EOFError, RuntimeError, KeyError, struct.error, ...
    except Exception as error:
        raise PickleRefused(f"it is damaged or no torch checkpoint ({_first_line(error)})") from error


def tensors_in(loaded: Any) -> dict[str, Tensor]:
    """Every tensor of a loaded file by name: ``state_dict`` unwrapped, nested dictionaries joined by dots."""
    # By dict's own methods: a pickle can give an OrderedDict an attribute of the name "items".
    if isinstance(loaded, dict) and isinstance(wrapped := dict.get(loaded, "state_dict"), dict):
        loaded = wrapped
    if not isinstance(loaded, dict):
        raise PickleRefused(f"it holds a {type(loaded).__name__}, not a dictionary of tensors")
    found: dict[str, Tensor] = {}
    for name, tensor in _flattened(loaded, "", [NAMES_LIMIT]):
        if name in found:
            raise PickleRefused(f"it holds two tensors of the name '{printable(name[:120])}'")
        found[name] = tensor
    return found


def _flattened(branch: dict, prefix: str, left: list[int], depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """left: [bytes that names may still take]."""
    for key, value in dict.items(branch):
        left[0] -= NAME_COST
        if isinstance(value, Tensor | dict):
            name = f"{prefix}{key}"
            left[0] -= sys.getsizeof(name)
        if left[0] < 0:
            raise PickleRefused("its names are longer, all together, than any real model's")
        if isinstance(value, Tensor):
            yield name, value
        elif isinstance(value, dict) and depth < 8:
            yield from _flattened(value, f"{name}.", left, depth + 1)


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == ZIP_MAGIC


def _rehearse(path: Path, zipped: bool) -> None:
    """Follow the file's pickles, step by step, as torch will; PickleRefused where it should not."""
    size = path.stat().st_size
    rehearsal = _Rehearsal(ROOM + size // ROOM_SHARE, size)
    if zipped:
        structure = _structure(path)
        # torch reads them into memory as well, and has them there twice for a moment.
        rehearsal.pay(2 * len(structure))
        rehearsal.follow(io.BytesIO(structure))
        return
    with path.open("rb") as file:
        for _ in range(LEGACY_PICKLES):
            rehearsal.follow(file)


# ---- archives ------------------------------------------------------------------------------------------


def _structure(path: Path) -> bytes:
    """``data.pkl`` of a zip-format checkpoint, after a look at the archive's own honesty."""
    size = path.stat().st_size
    with _Bounded(path) as file:
        file.most = DIRECTORY_LIMIT + size // DIRECTORY_SHARE
        _check_end(file, size)
        with zipfile.ZipFile(file) as archive:
            _check_entries(archive.infolist(), size)
    # By torch's own reader: what is looked at is what will be loaded, whatever another makes of the archive.
    with path.open("rb") as file:
        return torch._C.PyTorchFileReader(file).get_record("data.pkl")


def _check_entries(entries: list[zipfile.ZipInfo], size: int) -> None:
    """PickleRefused for an archive that torch.save does not write."""
    # torch stores and never compresses; so whoever compresses wants to unpack more than the file holds.
    if any(e.compress_type != zipfile.ZIP_STORED or e.file_size != e.compress_size for e in entries):
        raise PickleRefused("its archive is compressed, as torch never does it (a zip bomb is)")
    if sum(e.file_size for e in entries) > size:
        raise PickleRefused("its archive claims more data than the file holds")
    found = [e for e in entries if e.filename.rpartition("/")[2] == "data.pkl"]
    if len(found) != 1:
        raise PickleRefused("it is a zip archive, but not one that torch.save wrote")
    # torch's reader takes a.pkl for A.PKL; Python's ends a name at a zero, and torch's does not.
    names = Counter(e.orig_filename.lower() for e in entries)
    if len(names) < len(entries) or any("\0" in name for name in names):
        raise PickleRefused("its archive names the same entry twice")
    if found[0].file_size > PICKLE_LIMIT:
        raise PickleRefused("its list of tensors is larger than any real model needs")
    inner = found[0].filename.removesuffix("data.pkl") + "data/"
    for e in entries:
        if e.file_size > RECORD_LIMIT and e is not found[0] and not e.filename.startswith(inner):
            raise PickleRefused(
                f"its archive holds {printable(e.filename[:120])}, which no checkpoint of that size has"
            )


END = struct.Struct("<4s4H2LH")
"""A zip archive's last bytes: PK 5 6, disks, entries here and in all, the list's bytes and place, a comment's."""
WIDE_LOCATOR = struct.Struct("<4sLQL")
"""Before it in archives of 64 bits, as torch writes them: PK 6 7, a disk, the place of the WIDE_END, disks."""
WIDE_END = struct.Struct("<4sQ2H2L4Q")
"""Before that: PK 6 6, its length, versions, disks, entries here and in all, the list's bytes and place."""


def _check_end(file: BinaryIO, size: int) -> None:
    """PickleRefused unless an archive's end can be read in one way only.

    Readers disagree about bytes before the archive, after it, and about ends that contradict each other: one adjusts
    the places that are given, one believes them, and each then reads another list of entries.
    """
    lengths = WIDE_END.size, WIDE_LOCATOR.size, END.size
    file.seek(max(0, size - sum(lengths)))
    tail = file.read().rjust(sum(lengths), b"\0")
    file.seek(0)
    wide_end = WIDE_END.unpack_from(tail)
    locator = WIDE_LOCATOR.unpack_from(tail, lengths[0])
    magic, *disks, here, count, length, begin, comment = END.unpack_from(tail, sum(lengths[:2]))
    if magic != b"PK\5\6":
        raise PickleRefused("its archive does not end where the file ends; download it again")
    end = size - END.size
    honest = not comment
    if locator[0] == b"PK\6\7":
        end = size - sum(lengths)
        honest = honest and wide_end[0] == b"PK\6\6" and locator[2] == end
        honest = honest and wide_end[1] == WIDE_END.size - 12
        narrow = zip(
            (here, count, length, begin), (0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF), wide_end[6:], strict=True
        )
        honest = honest and all(value in (most, wide) for value, most, wide in narrow)
        disks, (here, count, length, begin) = [*disks, *wide_end[4:6]], wide_end[6:]
    if not honest or any(disks) or here != count or begin + length != end:
        raise PickleRefused("its archive's list of entries can be read in two ways, as torch never writes it")


class _Bounded(io.FileIO):
    """A file of which no more than ``most`` bytes are read at once: an archive's list is as long as it says."""

    most = DIRECTORY_LIMIT

    def read(self, size: int | None = -1) -> bytes:
        """See ``io.FileIO``; PickleRefused where it is too much."""
        asked = os.fstat(self.fileno()).st_size - self.tell() if size is None or size < 0 else size
        if asked > self.most:
            raise PickleRefused("its archive lists more entries than any real model needs")
        return super().read(size)


# ---- pickles -------------------------------------------------------------------------------------------


class _Steps:
    """A file of pickles, of which no long text is read at once."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.tell = file.tell

    def read(self, size: int) -> bytes:
        """See ``io.RawIOBase``; PickleRefused where it is too much."""
        if size > TEXT_LIMIT:
            raise PickleRefused("one of its texts is longer than any real model's")
        return self._file.read(size)

    def readline(self) -> bytes:
        """See ``io.RawIOBase``; PickleRefused where it is too long."""
        line = self._file.readline(LINE_LIMIT + 1)
        if len(line) > LINE_LIMIT:
            raise PickleRefused("it wants to import a name that is longer than any real one")
        return line


@dataclass(slots=True, eq=False)
class _Made:
    """A note of an object that a pickle makes; numbers and texts stand for themselves.

    kind:  "tuple", "list", "dict", "ordered", "inert", "bytes", "storage", "tensor", "parameter", or "name" of a class.
    items: of a tuple or a list; a name, alone.
    size:  items of a dictionary, numbers of a storage, tuples in each other.
    weight: letters and items of a tuple and of those in it.
    """

    kind: str
    items: Any = ()
    size: int = 0
    weight: int = 1


EMPTY = _Made("tuple")

STEP_COST = 8
"""Of any step of a pickle, in bytes, for the time that it takes: two million steps take some seconds."""
PLACE_COST = 18
"""Of a value while it lies on the stack, which doubles as it grows."""
COSTS = {
    "PROTO": 0, "STOP": 0, "NONE": 0, "NEWTRUE": 0, "NEWFALSE": 0, "BININT": 32, "BININT1": 0, "BININT2": 32,
    "LONG1": 320, "BINFLOAT": 24, "BINUNICODE": 0, "SHORT_BINSTRING": 0, "EMPTY_TUPLE": 0, "EMPTY_LIST": 140,
    "EMPTY_DICT": 80, "GLOBAL": 0, "MARK": 0, "TUPLE": 140, "TUPLE1": 140, "TUPLE2": 140, "TUPLE3": 140,
    "APPEND": 0, "APPENDS": 0, "SETITEM": 0, "SETITEMS": 0, "BINPUT": 70, "LONG_BINPUT": 102, "BINGET": 0,
    "LONG_BINGET": 0, "REDUCE": 0, "NEWOBJ": 0, "BUILD": 0, "BINPERSID": 0,
}  # fmt: skip
"""Steps that torch's reader knows, and the bytes that the object or the memo's entry of each takes at most, its own or
the note of it here; those of texts, items and calls come to it."""
MARK_COST = 200
"""Of a mark until what follows it is taken: a stack of its own."""
ITEM_COSTS = {"tuple": 8, "list": 20, "dict": 110, "ordered": 250}
"""Of an item of each container, while it grows."""
CALL_COSTS = {"ordered": 240, "inert": 100, "bytes": 100, "storage": 700, "tensor": 900, "parameter": 900}
"""Of each object that a call makes, besides what it is given."""


class _Rehearsal:
    """Follows pickles as torch's weights-only reader will, making nothing: what they import, call, and take of memory.

    room:      bytes that all their objects may take.
    file_size: bytes that all storages may have.
    """

    def __init__(self, room: int, file_size: int) -> None:
        self._room, self._left_to_store = room, file_size
        self._storages: dict[str, int] = {}
        self._names: dict[str, _Made] = {}
        self._tuple_keys = 0
        self._start()

    def _start(self) -> None:
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def pay(self, cost: int) -> None:
        """Take so many bytes of the room; PickleRefused where there is none left."""
        self._room -= cost
        if self._room < 0:
            raise PickleRefused("its list of tensors is longer than any real model needs")

    def follow(self, file: BinaryIO) -> None:
        """One pickle from its first step to its last; IndexError, KeyError, ... for a step that cannot be made."""
        self._start()
        for opcode, argument, _ in pickletools.genops(_Steps(file)):
            if opcode.name == "INST":
                self._import(str(argument))
            if opcode.name in ("STACK_GLOBAL", "EXT1", "EXT2", "EXT4"):
                # torch writes protocol 2, which has no such imports; their names can be hidden from a look.
                self._import(f"a hidden name ({opcode.name})")
            if opcode.name not in COSTS:
                raise PickleRefused(f"it holds a step that no checkpoint has ({opcode.name})")
            self.pay(STEP_COST + COSTS[opcode.name])
            self._step(opcode.name, argument)

    def _step(self, name: str, argument: Any) -> None:
        if name in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = self._stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self._push(self._memo[argument])
        elif name == "MARK":
            self.pay(MARK_COST)
            self._below.append(self._stack)
            self._stack = []
        elif name == "GLOBAL":
            self._import(argument)
            self._push(self._names.setdefault(argument, _Made("name", (argument,))))
        elif name in ("EMPTY_LIST", "EMPTY_DICT"):
            self._push(_Made("list", []) if name == "EMPTY_LIST" else _Made("dict"))
        elif "TUPLE" in name:
            self._tuple(name)
        elif name in ("APPEND", "APPENDS"):
            self._append(self._last(1) if name == "APPEND" else self._to_mark())
        elif name in ("SETITEM", "SETITEMS"):
            self._set(self._last(2) if name == "SETITEM" else self._to_mark())
        elif name in ("REDUCE", "NEWOBJ"):
            self._push(self._call(*self._last(2), name))
        elif name == "BUILD":
            self._build(*self._last(1), self._stack[-1])
        elif name == "BINPERSID":
            self._push(self._storage(*self._last(1)))
        elif name not in ("PROTO", "STOP"):
            if isinstance(argument, str):
                self.pay(sys.getsizeof(argument))
            self._push({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}.get(name, argument))

    def _push(self, value: Any) -> None:
        self.pay(PLACE_COST)
        self._stack.append(value)

    def _last(self, count: int) -> list[Any]:
        """What the step takes off the stack, in the order in which it was put there."""
        self.pay(-PLACE_COST * count)
        return [self._stack.pop() for _ in range(count)][::-1]

    def _to_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._below.pop()
        self.pay(-MARK_COST - PLACE_COST * len(items))
        return items

    def _import(self, name: str) -> None:
        if name not in TENSOR_NAMES and name not in INERT_NAMES:
            raise PickleRefused(
                f"it wants to import {printable(name.replace(' ', '.')[:160])}, and weights need no code; "
                "nothing was run"
            )

    def _tuple(self, name: str) -> None:
        if name == "EMPTY_TUPLE":
            return self._push(EMPTY)
        taken = tuple(self._to_mark() if name == "TUPLE" else self._last(int(name[-1])))
        depth = 1 + max((one.size for one in taken if _kind(one) == "tuple"), default=0)
        if depth > NESTED_LIMIT:
            raise PickleRefused("its tuples lie in each other deeper than any real model's")
        self.pay(ITEM_COSTS["tuple"] * len(taken))
        self._push(_Made("tuple", taken, depth, 1 + sum(map(_weight, taken))))

    def _append(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if _kind(target) != "list":
            raise PickleRefused("it appends to what is no list")
        self.pay(ITEM_COSTS["list"] * len(items))
        target.items.extend(items)

    def _set(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if _kind(target) not in ("dict", "ordered") or len(items) % 2:
            raise PickleRefused("it sets items of what is no dictionary")
        for key in items[::2]:
            self._check_key(key)
        self.pay(ITEM_COSTS[target.kind] * (len(items) // 2))
        target.size += len(items) // 2

    def _check_key(self, key: Any) -> None:
        """Keys that are found and written out in no time: texts, numbers, classes, and a few small tuples of them."""
        if _kind(key) == "tuple":
            self._tuple_keys += 1
            if self._tuple_keys > KEY_LIMIT or key.weight > KEY_LIMIT:
                raise PickleRefused("its dictionaries' keys are larger than any real model's")
            for item in key.items:
                self._check_key(item)
        elif isinstance(key, _Made) and key.kind not in ("name", "inert", "bytes"):
            raise PickleRefused(f"a {key.kind} is the key of a dictionary in it")
        elif isinstance(key, int) and key not in KEY_NUMBERS:
            raise PickleRefused("its dictionaries' keys are larger than any real model's")

    def _storage(self, given: Any) -> _Made:
        """A place for numbers, by ("storage", its kind, its name, a device, how many[, which part of it])."""
        if _kind(given) != "tuple" or len(given.items) not in (5, 6):
            raise PickleRefused("it names a storage as torch never does")
        what, kind, name, device, count, *part = given.items
        plain = isinstance(name, str) and isinstance(device, str) and type(count) is int
        if what != "storage" or not plain or _kind(kind) != "name" or kind.items[0] not in ITEM_BYTES:
            raise PickleRefused("it names a storage as torch never does")
        if part and part[0] is not None:
            # Files of torch < 0.4: (the part's name, where it begins, how many numbers).
            called, begin, length = part[0].items
            if not isinstance(called, str) or not 0 <= begin <= begin + length <= count:
                raise PickleRefused("it names a part of a storage that is not there")
            count = length
        elif count < 0:
            raise PickleRefused("it names a storage of less than nothing")
        if name not in self._storages:
            self._storages[name] = given.items[4]
            self._left_to_store -= given.items[4] * ITEM_BYTES[kind.items[0]]
        if self._left_to_store < 0 or given.items[4] > self._storages[name]:
            raise PickleRefused("its storages claim more numbers than the file holds")
        self.pay(CALL_COSTS["storage"])
        return _Made("storage", size=count)

    def _call(self, called: Any, given: Any, step: str) -> _Made:
        name = called.items[0] if _kind(called) == "name" else ""
        if _kind(given) != "tuple" or not name or (step == "NEWOBJ" and name not in INERT_NAMES):
            raise PickleRefused("it makes an object as torch never does")
        made = _Made("inert") if name in INERT_NAMES else self._made(name, *given.items)
        if made is None:
            raise PickleRefused(f"it calls {name.replace(' ', '.')} as torch never does")
        if made.kind in CALL_COSTS:
            self.pay(CALL_COSTS[made.kind])
        return made

    def _made(self, name: str, *given: Any) -> _Made | None:
        """What a call gives; None for one that no checkpoint needs."""
        kinds = [_kind(one) for one in given]
        if name in ("torch._utils _rebuild_tensor", "torch._utils _rebuild_tensor_v2"):
            if len(given) < 4 or kinds[0] != "storage":
                return None
            self._check_extent(given[0].size, *given[1:4])
            return _Made("tensor")
        if name in ("torch._utils _rebuild_parameter", "torch.nn.parameter Parameter"):
            return _Made("parameter") if kinds[:1] in (["tensor"], ["parameter"]) else None
        if name == "collections OrderedDict" and kinds in ([], ["list"]):
            return self._ordered(given[0].items if given else [])
        if (
            name == "_codecs encode"
            and len(given) == 2
            and given[1] == "latin1"
            and isinstance(given[0], str)
        ):
            self.pay(len(given[0]))
            return _Made("bytes", size=len(given[0]), weight=1 + len(given[0]))
        if name == "torch Size" and kinds == ["tuple"]:
            self.pay(COSTS["TUPLE"] + ITEM_COSTS["tuple"] * len(given[0].items))
            return given[0]
        return None

    def _ordered(self, pairs: list[Any]) -> _Made:
        """An OrderedDict of [key, value] lists, as Python 2 wrote it; else its items are set afterwards."""
        for pair in pairs:
            if _kind(pair) not in ("list", "tuple") or len(pair.items) != 2:
                raise PickleRefused("it makes a dictionary of what are no pairs")
            self._check_key(pair.items[0])
        self.pay(ITEM_COSTS["ordered"] * len(pairs))
        return _Made("ordered", size=len(pairs))

    def _check_extent(self, count: int, begin: Any, shape: Any, strides: Any) -> None:
        """PickleRefused for a tensor that is no part of its storage: torch enlarges one that is too small."""
        if _kind(shape) != "tuple" or _kind(strides) != "tuple":
            raise PickleRefused("a tensor's shape in it is none")
        numbers = (begin, *shape.items, *strides.items)
        if len(shape.items) != len(strides.items) or len(shape.items) > MOST_DIMENSIONS:
            raise PickleRefused("a tensor in it has another number of dimensions than torch's")
        if any(type(number) is not int or number < 0 for number in numbers):
            raise PickleRefused("a tensor's shape in it is none")
        steps = zip(shape.items, strides.items, strict=True)
        end = begin + sum((length - 1) * stride for length, stride in steps) + 1
        if 0 not in shape.items and end > count:
            raise PickleRefused("one of its tensors claims more numbers than the file holds for it")

    def _build(self, state: Any, target: Any) -> None:
        """What is set on an object that was made: attributes of a dictionary, those of a Parameter."""
        kinds = _kind(target), _kind(state)
        parameter = kinds == ("parameter", "tuple") and len(state.items) == 3
        if not (parameter or kinds[0] == "inert" or kinds in (("ordered", "dict"), ("ordered", "ordered"))):
            raise PickleRefused("it sets what an object is as torch never does")
        if kinds[0] == "ordered":
            self.pay(CALL_COSTS["ordered"] + ITEM_COSTS["dict"] * state.size)


def _kind(value: Any) -> str:
    return value.kind if isinstance(value, _Made) else ""


def _weight(value: Any) -> int:
    """Letters and items of what lies in a tuple."""
    if isinstance(value, _Made):
        return value.weight
    return 1 + len(value) if isinstance(value, str) else 1


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {one_line(error)[:160]}" if str(error).strip() else type(error).__name__
