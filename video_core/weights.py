"""Checkpoints: opened without executing anything, renamed by tables, loaded exactly, written as a stream."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import struct
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from .asides import written_aside
from .families import family_of
from .images import one_line, printable
from .pickles import MOST_DIMENSIONS, ZIP_MAGIC, PickleRefused, read_pickle, tensors_in

Config = TypeVar("Config")
Module = TypeVar("Module", bound=nn.Module)

HEADER_LIMIT = 1 << 22
"""Bytes of a safetensors header: names and shapes take 200 kB in the largest of the published files, and every
byte of a dishonest one costs twenty of memory. The format's own limit is 100 MB."""

LARGEST_NUMBER = 1 << 17
"""Of an architecture that a file describes: widths, tokens, layers."""
MOST_LEVELS = 16
"""Entries of a list in such an architecture."""
MOST_PARAMETERS = 10_000
"""Tensors of a network; the largest published one has 1544."""

MOST_SIGNS = {b'"': 12, b"{": 2, b"[": 3, b",": 12}
"""Of a safetensors header, outside of its texts, for each of so many tensors: two bytes make an object of 64 and more
in memory, so that a small file could fill it."""

MOST_BYTES = 1 << 63
"""Of a tensor, its dimensions of nothing left out: torch reckons its strides by them, of a tensor without numbers
too."""

METADATA = "__metadata__"
"""The one name that no tensor of a safetensors file can have."""

LISTED = 6
"""Names of each kind that an error lists before it only counts."""
NAME_SHOWN = 120
"""Characters of a tensor's name in an error."""

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

STRANGERS = (
    (b"version https://git-lfs", "it is a Git LFS pointer, not the file itself; download the file behind it"),
    (b"<!doctype html", "it is a web page about a file, not the file"),
    (b"<html", "it is a web page about a file, not the file"),
    (b"gguf", "GGUF files are not supported; use .safetensors, .pth, .ckpt, .pt or .bin"),
)
"""How files begin that people take for checkpoints (compared in lower case), and what to tell them."""


class CheckpointError(ValueError):
    """A checkpoint that cannot be used, with a sentence that names the file, the reason and what to do."""


class Tensors(Mapping[str, Tensor]):
    """Named tensors that are read when asked for, as views of a mapped file: copy what is to be kept.

    source: what to call them in an error, usually a path.
    """

    source: str = "the given tensors"

    def release(self) -> None:
        """Let go of what has been mapped so far (it counts as the process's memory); reading may go on."""


class _Opened(NamedTuple):
    metadata: dict[str, str]
    names: tuple[str, ...]
    read: Callable[[str], Tensor]


class Checkpoint(Tensors):
    """A file of weights as a lazy mapping; ``open_checkpoint`` makes it.

    metadata: the strings of a safetensors header; empty for pickles.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.source = str(path)
        self._stamp = _stamp(path)
        self._opened: _Opened | None = _open(path)
        self.metadata = self._opened.metadata
        self._names = self._opened.names
        self._known = frozenset(self._names)

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._known:
            raise KeyError(name)
        # Also while it is mapped: what is gone of a file that was cut short ends the process that reads it.
        if _stamp(self.path) != self._stamp:
            raise CheckpointError(f"{self.source} was replaced while it was being read; load it again.")
        if self._opened is None:
            self._opened = _open(self.path)
        return self._opened.read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._known

    def release(self) -> None:
        self._opened = None


class Renamed(Tensors):
    """Tensors under other names, perhaps reshaped.

    table: new name -> old name, or (old name, transform). A transform takes and returns a Tensor; a view
    costs nothing. Old names that the table does not use do not exist here.
    """

    def __init__(
        self, tensors: Mapping[str, Tensor], table: Mapping[str, str | tuple[str, Callable[[Tensor], Tensor]]]
    ) -> None:
        self.source = source_of(tensors)
        self._tensors, self._table = tensors, dict(table)

    def __getitem__(self, name: str) -> Tensor:
        entry = self._table[name]
        if isinstance(entry, str):
            return self._tensors[entry]
        old, transform = entry
        return transform(self._tensors[old])

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)

    def release(self) -> None:
        if isinstance(self._tensors, Tensors):
            self._tensors.release()


def open_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Open ``.safetensors`` or a torch pickle (.pth, .ckpt, .pt, .bin; zip or the older format).

    The kind is read from the file's first bytes, not from its name. Nothing in the file is executed; a
    ``state_dict`` wrapper is taken off; nested dictionaries come out with dotted names. Tensors are
    mapped when asked for. Raises CheckpointError with a sentence, for missing files too.
    """
    return Checkpoint(Path(path))


def under(tensors: Mapping[str, Tensor], *prefixes: str) -> Renamed:
    """The tensors whose name contains one of the prefixes (first match wins), by what follows it.

    ``under(ckpt, "first_stage_model.")`` is UniAnimate spec 7's rule for the autoencoder.
    """
    table = {}
    for name in tensors:
        prefix = next((p for p in prefixes if p in name), None)
        if prefix is not None:
            table[name[name.index(prefix) + len(prefix) :]] = name
    return Renamed(tensors, table)


def read_config(tensors: Mapping[str, Tensor], default: Config, *keys: str) -> Config:
    """The architecture that a file carries in its metadata, else ``default`` (the release's).

    default: a frozen dataclass. The metadata entry (the first of ``keys`` that is there, "config" where none
    is named) is JSON of its fields; lists become tuples; a missing field keeps its default.
    Raises CheckpointError where the JSON does not fit the dataclass.
    """
    metadata = getattr(tensors, "metadata", {})
    key = next((key for key in keys or ("config",) if key in metadata), None)
    if key is None:
        return default
    try:
        return fitted(default, json.loads(metadata[key]))
    except (TypeError, ValueError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{source_of(tensors)} describes its architecture in metadata '{key}', but not as a "
            f"{type(default).__name__} ({one_line(error)})."
        ) from error


def fitted(default: Config, stored: Mapping[str, Any]) -> Config:
    """``default``, a frozen dataclass, with fields from a file's JSON, each of its default's type and no giant.

    Raises ValueError or TypeError for other fields and values.
    """
    if not isinstance(stored, dict):
        raise TypeError(f"it is a {type(stored).__name__}, not an object")
    known = {field.name: getattr(default, field.name) for field in dataclasses.fields(default)}
    unknown = sorted(stored.keys() - known.keys())
    if unknown:
        raise ValueError(f"{unknown[0][:40]!r} is none of its fields")
    changed = {name: _frozen(value) for name, value in stored.items()}
    for name, value in changed.items():
        if not _is_like(value, known[name]):
            raise ValueError(f"{name} cannot be {str(stored[name])[:40]}")
    return dataclasses.replace(default, **changed)


def built(network: Callable[[Config], Module], config: Config, tensors: Mapping[str, Tensor]) -> Module:
    """``network(config)`` on the meta device; CheckpointError where nothing sensible can be built of it.

    A library that is missing is an ImportError that names it.
    tensors: the file that described the architecture, for the error.
    """
    count = 0

    def counted(*_: Any) -> None:
        nonlocal count
        count += 1
        if count > MOST_PARAMETERS:
            raise ValueError(f"it has more than {MOST_PARAMETERS} tensors")

    hook = register_module_parameter_registration_hook(counted)
    try:
        with torch.device("meta"):
            return network(config)
    except ImportError as error:
        raise ImportError(
            f"{source_of(tensors)} needs the package {error.name} to be built: pip install {error.name}."
        ) from error
    # Sizes that do not fit each other come up as whatever the layers raise: ZeroDivisionError, RuntimeError, ...
    except Exception as error:
        raise CheckpointError(
            f"{source_of(tensors)} describes a network that cannot be built ({one_line(error)}); choose another file."
        ) from error
    finally:
        hook.remove()


def find_folder(path: Path, *parts: str) -> Path:
    """``path`` or the first of its sub-folders ``parts`` that holds a config.json (diffusers' layout)."""
    for folder in (path, *(path / part for part in parts)):
        if (folder / "config.json").is_file():
            return folder
    raise CheckpointError(
        f"{path} is not a model folder: there is no config.json in it, nor in {' or '.join(parts)} below it."
    )


def read_folder_config(folder: Path) -> dict[str, Any]:
    """The object in ``config.json``."""
    file = folder / "config.json"
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}.") from error
    if not isinstance(stored, dict):
        raise CheckpointError(f"{file} should hold a JSON object and holds something else.")
    return stored


def folder_config(folder: Path, default: Config, stored: Mapping[str, Any]) -> Config:
    """``fitted`` for entries of a model folder's config.json, with its errors."""
    try:
        return fitted(default, stored)
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"{folder / 'config.json'} describes no {type(default).__name__} ({one_line(error)})."
        ) from error


def find_weights(folder: Path, *stems: str) -> Path:
    """The weights in a model folder: safetensors before pickle, full precision before fp16."""
    names = [
        f"{stem}{variant}.{kind}"
        for kind in ("safetensors", "bin")
        for variant in ("", ".fp16")
        for stem in stems
    ]
    found = next((folder / name for name in names if (folder / name).is_file()), None)
    if found is None:
        raise CheckpointError(f"{folder} holds none of the files {', '.join(names)}.")
    return found


def load_exactly(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    source: str,
    dtype: torch.dtype | None = None,
) -> nn.Module:
    """Give every parameter and buffer of ``module`` (best built on the meta device) its tensor, on the CPU.

    tensors: exactly the module's state dict by name and shape.
    source:  which file should have had them, for the error ("UniAnimate's unet checkpoint").
    dtype:   floating tensors are cast to it one by one; None keeps the file's.
    Memory: the module itself plus at most an eighth of the file; nothing stays mapped. Tied parameters
    stay tied. Raises one CheckpointError that lists missing, unexpected and mis-shaped keys, or names a
    tensor that is not made of plain finite numbers. Returns the module.
    """
    expected = module.state_dict(keep_vars=True)
    _check_names_and_shapes(expected, tensors, source)
    given = source_of(tensors)
    slab = sum(t.numel() * t.element_size() for t in expected.values()) // 8
    loaded: dict[str, Tensor] = {}
    owners: dict[int, str] = {}
    pending = 0
    for name, place in expected.items():
        first = owners.setdefault(id(place), name)
        loaded[name] = loaded[first] if first != name else _owned(name, tensors[name], place, dtype, given)
        pending += tensors[name].numel() * tensors[name].element_size()
        if pending > slab and isinstance(tensors, Tensors):
            tensors.release()
            pending = 0
    module.load_state_dict(loaded, strict=True, assign=True)
    _tie(module, expected, owners)
    _nothing_left_on_meta(module)
    return module


def save_checkpoint(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> Path:
    """Write ``.safetensors``, one tensor in memory at a time, and only whole: a failure leaves no file.

    metadata: strings; an architecture goes in as ``{"config": json.dumps(dataclasses.asdict(config))}``.
    Raises CheckpointError for a tensor or a name that the format cannot hold.
    """
    path = Path(path)
    source = source_of(tensors)
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, Any] = {METADATA: dict(metadata)} if metadata else {}
    start = 0
    for name in names:
        if name == METADATA:
            raise CheckpointError(
                f"{source} has a tensor '{METADATA}', a name that safetensors files do not allow."
            )
        tensor = tensors[name]
        span = [start, start + tensor.numel() * tensor.element_size()]
        header[name] = {
            "dtype": _dtype_name(name, tensor, source),
            "shape": list(tensor.shape),
            "data_offsets": span,
        }
        start = span[1]
    try:
        text = json.dumps(header, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise CheckpointError(
            f"{source} has a name or a description that is no text ({one_line(error)}); {path} was not written."
        ) from error
    text += b" " * (-len(text) % 8)
    with written_aside(path) as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in names:
            # A view may be marked as negated or conjugated, with its numbers as they were.
            value = tensors[name].detach().resolve_neg().resolve_conj()
            file.write(value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return path


def common_dtype(tensors: Mapping[str, Tensor]) -> torch.dtype:
    """The one dtype of all floating tensors, else float32: layers of two dtypes cannot follow each other."""
    dtypes = {tensor.dtype for tensor in tensors.values() if tensor.dtype.is_floating_point}
    return dtypes.pop() if len(dtypes) == 1 else torch.float32


def shown(name: str) -> str:
    """A tensor's name in an error."""
    return printable(name[:NAME_SHOWN])


def source_of(tensors: Mapping[str, Tensor]) -> str:
    """What to call these tensors in an error."""
    return getattr(tensors, "source", Tensors.source)


# ---- opening -------------------------------------------------------------------------------------------


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        stat = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a zero in the name
        raise CheckpointError(
            f"{path} cannot be opened: {getattr(error, 'strerror', None) or error}."
        ) from error
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _open(path: Path) -> _Opened:
    try:
        if path.is_dir():
            raise CheckpointError(f"{path} is a folder; choose the checkpoint file inside it.")
        if not path.is_file():
            raise CheckpointError(f"{path} is no file that can be read; choose a checkpoint.")
        with path.open("rb") as file:
            head = file.read(64)
        _refuse_strangers(path, head)
        return _open_pickle(path) if _is_pickle(head) else _open_safetensors(path)
    except (PickleRefused, MemoryError) as error:
        reason = str(error) or "it asks for more memory than there is"
        raise CheckpointError(f"{path} was refused: {reason}.") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from error


def _refuse_strangers(path: Path, head: bytes) -> None:
    if not head:
        raise CheckpointError(f"{path} is empty; download it again.")
    for start, reason in STRANGERS:
        if head.lstrip().lower().startswith(start):
            raise CheckpointError(f"{path} is not a checkpoint: {reason}.")
    if not (_is_pickle(head) or head[8:9] == b"{"):
        raise CheckpointError(f"{path} is no safetensors file and no torch checkpoint, or it is damaged.")


def _is_pickle(head: bytes) -> bool:
    # A safetensors file begins with the length of its header (8 bytes) and an opening brace.
    return head[8:9] != b"{" and (head.startswith(ZIP_MAGIC) or head[:1] == b"\x80")


def _open_pickle(path: Path) -> _Opened:
    if path.suffix.lower() == ".safetensors":
        raise PickleRefused("it is a pickle named .safetensors; rename it to .pth")
    tensors = tensors_in(read_pickle(path))
    if not tensors:
        raise PickleRefused("it holds no tensors")
    for name, tensor in tensors.items():
        _plain(path, name, tensor)
    return _Opened({}, tuple(tensors), tensors.__getitem__)


def _plain(path: Path, name: str, tensor: Tensor) -> None:
    """Refuse tensors that are not what they seem: sparse, quantised, or larger than their own storage."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        raise CheckpointError(f"{path} was refused: '{shown(name)}' is not a plain dense tensor.")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise CheckpointError(
            f"{path} was refused: '{shown(name)}' claims more numbers than the file holds for it."
        )


def _open_safetensors(path: Path) -> _Opened:
    from safetensors import SafetensorError, safe_open

    try:
        header, begin = _header(path)
        # Its author's reader looks at the whole header: offsets that overlap or lead outside, sizes that do not fit.
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata, names = dict(file.metadata() or {}), tuple(file.keys())
        opened = _Opened(metadata, names, partial(_mapped, path, _storage(path), begin, header))
    except (SafetensorError, ValueError, struct.error, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        reason = one_line(str(error).removeprefix("Error while deserializing header: ")[:160])
        raise CheckpointError(
            f"{path} is not a whole safetensors file ({reason}); download it again or choose another file."
        ) from error
    if not opened.names:
        raise CheckpointError(f"{path} holds no tensors.")
    return opened


def _storage(path: Path) -> torch.UntypedStorage:
    """The file's bytes, mapped; a write would stay in memory."""
    return torch.UntypedStorage.from_file(str(path), shared=False, nbytes=path.stat().st_size)


def _mapped(
    path: Path, storage: torch.UntypedStorage, begin: int, header: Mapping[str, Any], name: str
) -> Tensor:
    """A tensor of a mapped file. Not by safetensors' own reader, which leaks two numbers for every tensor."""
    entry = header[name]
    dtype = READ_DTYPES.get(entry["dtype"])
    if dtype is None:
        raise CheckpointError(f"{path} stores '{shown(name)}' as {entry['dtype']}, which is not read here.")
    if len(entry["shape"]) > MOST_DIMENSIONS:
        raise CheckpointError(
            f"{path} was refused: '{shown(name)}' has {len(entry['shape'])} dimensions; "
            f"{MOST_DIMENSIONS} are possible."
        )
    if dtype.itemsize * math.prod(filter(None, entry["shape"])) >= MOST_BYTES:
        raise CheckpointError(
            f"{path} was refused: '{shown(name)}' has dimensions that are larger than any tensor can have."
        )
    start, end = (begin + offset for offset in entry["data_offsets"])
    if start == end:
        return torch.empty(entry["shape"], dtype=dtype)
    return torch.asarray(storage[start:end], dtype=torch.uint8).view(dtype).reshape(entry["shape"])


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """A safetensors file's header, and where the bytes of its tensors begin.

    The safetensors reader keeps the last of two equal names; which of them was meant nobody can say.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            name, times = Counter(name for name, _ in pairs).most_common(1)[0]
            raise CheckpointError(f"{path} was refused: its header names '{shown(name)}' {times} times.")
        return found

    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > min(HEADER_LIMIT, path.stat().st_size - 8):
            raise ValueError("the header claims to be larger than the file")
        text = file.read(length)
    _check_signs(path, text)
    return json.loads(text, object_pairs_hook=unique), 8 + length


def _check_signs(path: Path, text: bytes) -> None:
    """Refuse a header that becomes far larger than it is; metadata may hold anything inside its texts."""
    bare = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    crowded = bare.count(b'"') > MOST_SIGNS[b'"'] * MOST_PARAMETERS
    outside = b"" if crowded else b"".join(bare.split(b'"')[::2])
    if crowded or any(outside.count(sign) > most * MOST_PARAMETERS for sign, most in MOST_SIGNS.items()):
        raise CheckpointError(f"{path} was refused: its header lists more than any real model needs.")


# ---- loading -------------------------------------------------------------------------------------------


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


def _is_like(value: Any, default: Any) -> bool:
    """Whether a value from a file can take a field's place, judged by what the field holds by default."""
    if isinstance(value, tuple):
        kind = default[0] if default else 0.0
        fits = isinstance(default, tuple | None) and 0 < len(value) <= MOST_LEVELS
        return fits and all(not isinstance(item, tuple) and _is_like(item, kind) for item in value)
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, int):
        return isinstance(value, int) and 0 <= value <= LARGEST_NUMBER
    if isinstance(default, float):
        return isinstance(value, int | float) and abs(value) <= LARGEST_NUMBER
    return value is None if default is None else isinstance(value, type(default))


def _check_names_and_shapes(
    expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor], source: str
) -> None:
    missing = [name for name in expected if name not in tensors]
    unexpected = [name for name in tensors if name not in expected]
    misshaped = [
        f"{shown(name)} is {list(tensors[name].shape)} and should be {list(place.shape)}"
        for name, place in expected.items()
        if name in tensors and tensors[name].shape != place.shape
    ]
    kinds = {"missing": missing, "unexpected": unexpected, "mis-shaped": misshaped}
    found = [f"{len(names)} {kind} ({_some(names)})" for kind, names in kinds.items() if names]
    if not found:
        return
    fitting = len(expected) - len(missing) - len(misshaped)
    family = family_of(tensors) if len(missing) > len(expected) // 2 else None
    raise CheckpointError(
        f"{source_of(tensors)} does not hold exactly the weights of {source}: {'; '.join(found)}. "
        + (f"It looks like {family}. " if family else "")
        + f"{fitting} of {len(expected)} keys fit; choose the file of {source}."
    )


def _some(names: list[str]) -> str:
    listed = ", ".join(map(shown, names[:LISTED]))
    return listed + (f", and {len(names) - LISTED} more" if len(names) > LISTED else "")


def _owned(name: str, value: Tensor, place: Tensor, dtype: torch.dtype | None, given: str) -> Tensor:
    """A copy that owns its memory: a mapped one dies with its file, and keeps the file busy on Windows."""
    if not place.dtype.is_floating_point:
        if value.dtype.is_floating_point or value.dtype.is_complex:
            raise CheckpointError(
                f"{given} stores '{shown(name)}' as {value.dtype}; {place.dtype} was expected."
            )
        return value.detach().to(place.dtype, copy=True)
    if value.dtype not in FLOATS:
        raise CheckpointError(
            f"{given} stores '{shown(name)}' as {value.dtype}; only float16, bfloat16 and float32 weights can be "
            "used (fp8 and quantised files have lost what full weights hold)."
        )
    copied = value.detach().to(dtype or value.dtype, copy=True, memory_format=torch.contiguous_format)
    if copied.numel() and not torch.stack(torch.aminmax(copied)).isfinite().all():
        converted = "" if copied.dtype == value.dtype else f" after conversion to {copied.dtype}"
        raise CheckpointError(f"{given} is damaged: '{shown(name)}' holds NaN or infinite values{converted}.")
    return copied


def _tie(module: nn.Module, expected: Mapping[str, Tensor], owners: Mapping[int, str]) -> None:
    """Names that shared one Parameter share one again (assigning makes a Parameter for every name)."""
    for name, place in expected.items():
        first = owners[id(place)]
        if first != name:
            parent, _, leaf = name.rpartition(".")
            setattr(module.get_submodule(parent), leaf, _attribute(module, first))


def _attribute(module: nn.Module, name: str) -> Any:
    parent, _, leaf = name.rpartition(".")
    return getattr(module.get_submodule(parent), leaf)


def _nothing_left_on_meta(module: nn.Module) -> None:
    left = [name for name, buffer in module.named_buffers() if buffer.is_meta]
    if left:
        raise RuntimeError(
            f"{type(module).__name__} was built on the meta device with buffers that no checkpoint holds: "
            f"{_some(left)}. Give them their values before loading."
        )


# ---- saving --------------------------------------------------------------------------------------------

DTYPE_NAMES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8",
    torch.bool: "BOOL",
}  # fmt: skip
OTHER_DTYPES = {"U16": "uint16", "U32": "uint32", "U64": "uint64", "C64": "complex64", "F8_E4M3": "float8_e4m3fn",
                "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu"}  # fmt: skip
"""Those of safetensors that are never written here; a torch that lacks one does not read it."""
READ_DTYPES = {name: dtype for dtype, name in DTYPE_NAMES.items()} | {
    name: getattr(torch, own) for name, own in OTHER_DTYPES.items() if hasattr(torch, own)
}


def _dtype_name(name: str, tensor: Tensor, source: str) -> str:
    if tensor.dtype not in DTYPE_NAMES:
        raise CheckpointError(
            f"{source} holds '{shown(name)}' as {tensor.dtype}, which is not written to safetensors files here."
        )
    return DTYPE_NAMES[tensor.dtype]
