"""Hostile checkpoints, made by a script: lies in headers, code in pickles, bombs, wrong numbers, wrong models."""

from __future__ import annotations

import collections
import io
import json
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xdyna_unianimate
from safetensors.torch import save

OPENS = "opens"
"""Tag of files that are whole and harmless, and wrong for a loader by their names, shapes or numbers."""


@dataclass(frozen=True)
class Hostile:
    """A case. tag: OPENS, or empty for what must be refused by whoever opens it.

    pinned: that in which a guard shows, and which is tried in the short version too.
    """

    name: str
    path: Path
    tag: str = ""
    pinned: bool = False


class Zoo:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cases: list[Hostile] = []

    def file(self, name: str, file: str, content: bytes, tag: str = "", pinned: bool = False) -> Path:
        place = self.folder / f"{len(self.cases):04d}"
        place.mkdir()
        (place / file).write_bytes(content)
        self.cases.append(Hostile(name, place / file, tag, pinned))
        return place / file


def zoo(folder: Path, canary: Path, cuts: int, spoilt: int) -> list[Hostile]:
    """All cases; whatever runs code leaves the canary. spoilt: how many of the embedded files get wrong numbers."""
    made = Zoo(folder)
    add_headers(made)
    add_code(made, canary)
    add_pickles(made)
    add_crowds(made)
    add_lies(made)
    add_archives(made)
    add_strangers(made)
    add_numbers(made, demo_files()[:spoilt])
    add_architectures(made)
    add_networks(made)
    for kind, content in {
        "a.safetensors": tiny(),
        "zip.pth": saved(STATE),
        "old.pth": saved(STATE, False),
    }.items():
        for at in np.unique(
            np.r_[1, np.linspace(2, len(content) - 2, cuts - 2).astype(int), len(content) - 1]
        ):
            made.file(f"{kind} cut at {at}", kind, content[:at])
    return made.cases


# ---- safetensors ---------------------------------------------------------------------------------------

STATE = {"a.weight": torch.arange(64.0).reshape(8, 8), "b.weight": torch.ones(4)}


def tiny() -> bytes:
    return save(STATE)


def raw(header: object, data: bytes = b"\0" * 32, length: int | None = None) -> bytes:
    """A safetensors file of that header (an object, or its bytes), whatever it claims."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(start: object = 0, end: object = 32, shape: object = (8,), dtype: object = "F32") -> dict:
    return {
        "dtype": dtype,
        "shape": shape if isinstance(shape, str) else list(shape),
        "data_offsets": [start, end],
    }


def add_headers(made: Zoo) -> None:
    good = json.dumps({"a": entry()}).encode()
    for length in (
        0,
        1,
        2,
        8,
        len(good) - 1,
        len(good) + 33,
        10**8,
        10**8 + 1,
        2**31,
        2**40,
        2**63 - 1,
        2**64 - 1,
    ):
        made.file(f"a header of {length} bytes", "a.safetensors", raw(good, length=length))
    headers: dict[str, object] = {
        "overlapping offsets": {"a": entry(0, 32), "b": entry(16, 32, [4])},
        "the same bytes twice": {"a": entry(), "b": entry()},
        "offsets outside": {"a": entry(0, 3200, [800])},
        "offsets that begin outside": {"a": entry(10**9, 10**9 + 32)},
        "offsets backwards": {"a": entry(32, 0)},
        "negative offsets": {"a": entry(-32, 0)},
        "a hole": {"a": entry(0, 8, [2]), "b": entry(24, 32, [2])},
        "bytes left over": {"a": entry(0, 16, [4])},
        "offsets as text": {"a": entry("0", "32")},
        "offsets as fractions": {"a": entry(0.5, 32.5)},
        "offsets beyond 64 bits": {"a": entry(0, 10**30)},
        "three offsets": {"a": {**entry(), "data_offsets": [0, 16, 32]}},
        "no offsets": {"a": {"dtype": "F32", "shape": [8]}},
        "a shape that is too large": {"a": entry(shape=[9])},
        "a shape that overflows": {"a": entry(shape=[2**32, 2**32])},
        "a shape that overflows to the right size": {"a": entry(shape=[2**61, 8, 8, 8, 8 * 1024, 2**40])},
        "a shape of nothing whose strides overflow": {"a": entry(0, 0, shape=[0, 2**40, 2**40])},
        "a shape of nothing beyond 64 bits": {"a": entry(0, 0, shape=[0, 2**63])},
        "a negative shape": {"a": entry(shape=[-8])},
        "a shape of text": {"a": entry(shape="8")},
        "a shape of fractions": {"a": entry(shape=[8.0])},
        "10,000 dimensions": {"a": entry(shape=[8] + [1] * 10_000)},
        "an unknown dtype": {"a": entry(dtype="F33")},
        "a dtype of number": {"a": entry(dtype=32)},
        "the wrong dtype": {"a": entry(dtype="F64")},
        "an entry that is a list": {"a": [0, 32]},
        "an entry that is nothing": {"a": None},
        "a header that is a list": [1, 2],
        "a header that is empty": {},
        "metadata of numbers": {"__metadata__": {"a": 1}, "a": entry()},
        "metadata that is a list": {"__metadata__": [1], "a": entry()},
    }
    pinned = {"10,000 dimensions", *(name for name in headers if name.startswith("a shape of nothing"))}
    for name, header in headers.items():
        data = b"" if name.startswith("a shape of nothing") else b"\0" * 32
        made.file(name, "a.safetensors", raw(header, data), pinned=name in pinned)
    one = json.dumps(entry())
    texts = {
        "a name twice": f'{{"a": {one}, "a": {one}}}',
        "a name thrice, escaped": f'{{"a": {one}, "\\u0061": {one}}}',
        "metadata twice": f'{{"__metadata__": {{}}, "__metadata__": {{"config": "x"}}, "a": {one}}}',
        "a field twice": '{"a": {"dtype": "F32", "dtype": "I32", "shape": [8], "data_offsets": [0, 32]}}',
        "no JSON": "{" + "x" * 30 + "}",
        "a header cut short": good.decode()[:-3],
        "JSON and more": good.decode() + "}}",
        "nested lists": '{"a": ' + "[" * 50_000,
        "nested dicts": '{"a":' * 50_000,
        "NaN in a shape": '{"a": {"dtype": "F32", "shape": [NaN], "data_offsets": [0, 32]}}',
        "half a letter": '{"\ud800": 1}',
    }
    for name, text in texts.items():
        content = raw(text.encode(errors="surrogatepass"))
        made.file(name, "a.safetensors", content, pinned=name == "a name twice")
    for times in (19_000, 250_000, 1_500_000):
        many = ",".join(f'"{number}":{{}}' for number in range(times))
        content = raw(f"{{{many}}}".encode())
        made.file(f"a header of {times} entries", "a.safetensors", content, pinned=times > 1_000_000)
    for name, sign, times in (
        ("lists", "[],", 1_300_000),
        ("numbers", "7,", 2_000_000),
        ("texts", '"",', 1_300_000),
    ):
        content = raw(f'{{"a":[{sign * times}0]}}'.encode())
        made.file(f"a header of {name}", "a.safetensors", content, pinned=name == "lists")
    counted = ",".join(
        f'"{i}":{{"dtype":"F32","shape":[1,1,1,1],"data_offsets":[0,4]}}' for i in range(19_000)
    )
    made.file("19,000 tensors of the same bytes", "a.safetensors", raw(f"{{{counted}}}".encode()))
    described = raw({"__metadata__": {"a": "x" * 40_000_000}, "a": entry()})
    made.file("a description of 40 million letters", "a.safetensors", described, pinned=True)
    made.file(
        "complex numbers", "a.safetensors", raw({"a": entry(shape=[4], dtype="C64")}), OPENS, pinned=True
    )
    long = "n" * 200_000
    made.file("a long name twice", "a.safetensors", raw(f'{{"{long}": {one}, "{long}": {one}}}'.encode()))
    made.file(
        "a name of two lines twice", "a.safetensors", raw(f'{{"a\\nb": {one}, "a\\nb": {one}}}'.encode())
    )
    made.file("a dtype of two lines", "a.safetensors", raw({"a": entry(dtype="F\n\x1b[2J33")}))
    for name in (
        "../../x", "/etc/x", "", "a\0b", "a" * 100_000, "__metadata__x", "имя", "a\nb", "\x1b[2Jb\r", "\u202e\u2028",
    ):  # fmt: skip
        made.file(f"a tensor named {name[:12]!r}", "a.safetensors", raw({name: entry()}), OPENS)


def crowded(count: int) -> bytes:
    """A whole file of so many tensors of one number, with long names."""
    listed = ",".join(
        f'"{i:0100}":{{"dtype":"F32","shape":[1,1,1,1,1,1,1,1],"data_offsets":[{4 * i},{4 * i + 4}]}}'
        for i in range(count)
    )
    return raw(f"{{{listed}}}".encode(), bytes(4 * count))


# ---- pickles -------------------------------------------------------------------------------------------


class Calls:
    """Pickles into a call of ``function(*arguments)``, then into what is done with its result."""

    def __init__(self, function: Callable, *arguments: object, then: tuple = ()) -> None:
        self.call = function, arguments, *then

    def __reduce__(self) -> tuple:
        return self.call


def saved(content: object, zipped: bool = True) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, _use_new_zipfile_serialization=zipped)
    return stream.getvalue()


def zipped(pickled: bytes, compression: int = zipfile.ZIP_STORED, **more: bytes) -> bytes:
    """A zip archive as torch writes it, around any pickle."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled)
        for name, data in ({"version": b"3\n", "byteorder": b"little"} | more).items():
            archive.writestr(f"archive/{name}", data)
    return stream.getvalue()


def imported(name: str, *arguments: object) -> bytes:
    """A pickle of protocol 2 that calls ``module name`` with the arguments; nothing is imported here."""
    packed = pickle.dumps(tuple(arguments), 2)[2:-1]
    return b"\x80\x02c" + name.replace(" ", "\n").encode() + b"\n" + packed + b"R."


def add_code(made: Zoo, canary: Path) -> None:
    touch, write = f"touch {canary}", f"open({str(canary)!r}, 'w')"
    names = {
        "os.system": imported("os system", touch),
        "posix.system": imported("posix system", touch),
        "nt.system": imported("nt system", touch),
        "os.popen": imported("os popen", touch),
        "os.execv": imported("os execv", "/bin/touch", ["touch", str(canary)]),
        "os.posix_spawn": imported("os posix_spawn", "/bin/touch", ["touch", str(canary)], {}),
        "subprocess.Popen": imported("subprocess Popen", ["touch", str(canary)]),
        "subprocess.check_output": imported("subprocess check_output", ["touch", str(canary)]),
        "eval": imported("builtins eval", write),
        "exec": imported("builtins exec", write),
        "Python 2's eval": imported("__builtin__ eval", write),
        "compile": imported("builtins compile", write, "a", "exec"),
        "__import__": imported("builtins __import__", "antigravity"),
        "open": imported("builtins open", str(canary), "w"),
        "input": imported("builtins input", "?"),
        "breakpoint": imported("builtins breakpoint"),
        "getattr": imported("builtins getattr", "a", "join"),
        "runpy": imported("runpy run_path", str(canary)),
        "importlib": imported("importlib import_module", "antigravity"),
        "pty": imported("pty spawn", touch),
        "socket": imported("socket create_connection", ("127.0.0.1", 9)),
        "urllib": imported("urllib.request urlopen", "http://127.0.0.1:9/"),
        "webbrowser": imported("webbrowser open", "http://127.0.0.1:9/"),
        "shutil": imported("shutil copyfile", "/etc/passwd", str(canary)),
        "pathlib": imported("pathlib Path", "/"),
        "ctypes": imported("ctypes CDLL", "libc.so.6"),
        "code": imported("types CodeType"),
        "marshal": imported("marshal loads", b"\0"),
        "pickle in a pickle": imported("pickle loads", pickle.dumps(Calls(open, str(canary), "w"))),
        "torch.load": imported("torch load", str(canary)),
        "torch.hub": imported("torch.hub load", "a/b", "c"),
        "torch's pickle in a storage": imported("torch.storage _load_from_bytes", b"\x80\x02."),
        "torch.jit": imported("torch.jit load", str(canary)),
        "torch.ops": imported("torch.ops load_library", str(canary)),
        "torch.cpp_extension": imported("torch.utils.cpp_extension load_inline", "a", ""),
        "numpy.load": imported("numpy load", str(canary)),
        "numpy's loader": imported("numpy.testing._private.utils runstring", write, {}),
        "operator": imported("operator methodcaller", "system", touch),
        "functools": imported("functools partial", len),
        "copyreg": imported("copyreg _reconstructor", object, object, None),
        "a bytearray bomb": imported("builtins bytearray", 10**12),
        "a tensor bomb": imported("torch FloatTensor", 10**11),
        "zeros": imported("torch zeros", 10**11),
        "a range": imported("builtins range", 10**12),
        "a dotted name": imported("torch._utils _rebuild_tensor_v2.__globals__"),
        "a module's module": imported("torch serialization.os.system", touch),
        "a lightning callback that is no callback": imported("pytorch_lightning.callbacks Timer"),
        "an empty name": imported(" ", touch),
    }
    for name, pickled in names.items():
        made.file(f"{name}, zip", "a.pth", zipped(pickled))
        made.file(f"{name}, bare", "a.pt", pickled)
    chain = Calls(getattr, Calls(__import__, "os"), "system")

    def rich() -> dict[str, Any]:
        """Made anew for each file: what is pickled of an iterator is gone afterwards."""
        return {
            "builtins.getattr chain": chain,
            "eval beside weights": Calls(eval, write),
            "state set on a call": Calls(dict, then=({"a": 1},)),
            "a call among items": Calls(
                collections.OrderedDict, then=(None, None, iter([("a", Calls(eval, write))]))
            ),
            "list items": Calls(list, then=(None, iter([Calls(eval, write)]))),
            "a counter": collections.Counter("abc"),
            "a named tuple's class": collections.namedtuple,
            "a path": Path("a"),
        }

    for is_zip in (True, False):
        for name, value in rich().items():
            content = saved({"state_dict": STATE, "x": value}, is_zip)
            made.file(f"{name}, {'zip' if is_zip else 'old'}", "a.ckpt", content)
    for protocol in range(6):
        bare = pickle.dumps(Calls(eval, write), protocol)
        made.file(f"protocol {protocol}", "a.bin", bare)
        made.file(f"protocol {protocol}, zip", "a.bin", zipped(bare))


def add_pickles(made: Zoo) -> None:
    head, storage = b"\x80\x02", b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\0"
    odd = {
        "a persistent id of text": head + b"X\x05\0\0\0othrsQ.",
        "a persistent id of protocol 0": b"\x80\x00Pid\n.",
        "a storage that is not there": head + storage + b"7X\x03\0\0\0cpuK\x08tQ.",
        "a storage of a device": head + storage + b"0X\x03\0\0\0abcK\x08tQ.",
        "an object by INST": b"\x80\x02(S'true'\nios\nsystem\n.",
        "an object by OBJ": b"\x80\x02(cos\nsystem\nS'true'\no.",
        "a stack's global": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
        "an extension": b"\x80\x02\x82\x01.",
        "a frame of 2^60": b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b".",
        "text of 2^60": b"\x80\x04\x8d" + struct.pack("<Q", 2**60) + b".",
        "bytes of 2^31": b"\x80\x03B" + struct.pack("<I", 2**31 - 1) + b".",
        "a number of 2^31 digits": b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b".",
        "nothing on the stack": head + b"0.",
        "marks without end": head + b"(" * 100_000 + b".",
        "tuples in each other": head + b")" + b"\x85" * 100_000 + b".",
        "dicts without end": head + b"}" * (1 << 21) + b".",
        "a memo that is not there": head + b"h\x07.",
        "a memo of 2^32": head + b"}r\xff\xff\xff\xff.",
        "a list": pickle.dumps([1, 2], 2),
        "a number": pickle.dumps(7, 2),
        "no tensors": pickle.dumps({"a": 1}, 2),
        "no end": head + b"}",
        "protocol 9": b"\x80\x09}.",
    }
    for name, pickled in odd.items():
        made.file(f"{name}, zip", "a.pth", zipped(pickled), pinned=name == "dicts without end")
        made.file(f"{name}, bare", "a.pt", pickled)
    long = b"\x80\x02c" + b"m" * 1_000_000 + b"\nsystem\n)R."
    made.file("a name of a million letters", "a.pth", zipped(long))
    made.file(
        "a name that clears the screen", "a.pth", zipped(long.replace(b"m" * 1_000_000, b"os\x1b[2J\r"))
    )
    for levels in (4, 60):
        # Each holds the one before twice, so that to find the place of the last is 2^60 steps.
        key = b"\x80\x02}X\1\0\0\0a\x85q\1" + b"h\1\x86q\1" * levels + b"K\1s."
        made.file(f"a key of {levels} tuples in each other", "a.pth", zipped(key), pinned=levels == 60)
    twice = b"\x80\x02N\x85q\1" + b"h\1h\1\x86q\1" * 60_000 + b"."
    made.file("60,000 tuples, each of the one before twice", "a.pth", zipped(twice), pinned=True)
    made.file("dicts in each other a hundred times", "a.pth", saved(branching(8, 100)), pinned=True)
    selves: dict = {"a": torch.ones(2)}
    selves |= {str(number): selves for number in range(100)}
    made.file("a dict in itself a hundred times", "a.pth", saved(selves))
    hollow: dict = {}
    hollow |= {str(number): hollow for number in range(100)}
    made.file("a dict of nothing in itself a hundred times", "a.pth", saved(hollow))
    prefix = {"k" * 200_000: {str(number): STATE["b.weight"] for number in range(2000)}}
    made.file("names that all begin with 200,000 letters", "a.pth", saved(prefix))
    inside: dict = {"a": torch.ones(2)}
    inside["itself"] = inside
    made.file("a dict in itself", "a.pth", saved(inside), OPENS, pinned=True)
    made.file(
        "names of numbers",
        "a.pth",
        saved({1: torch.ones(2), (2,): torch.ones(2), None: torch.ones(1)}),
        OPENS,
    )
    made.file("an expanded tensor", "a.pth", saved({"a": torch.ones(1).expand(10**9)}), pinned=True)
    made.file("a sparse tensor", "a.pth", saved({"a": torch.eye(3).to_sparse()}))
    made.file(
        "a quantised tensor",
        "a.pth",
        saved({"a": torch.quantize_per_tensor(torch.ones(3), 1, 0, torch.qint8)}),
    )
    whole = saved(STATE)
    made.file("storages that lie", "a.pth", whole.replace(b"K@tq", b"M\xff\xfft"[:4], 1))
    old = saved(STATE, False).replace(struct.pack("<q", 64), struct.pack("<q", 2**40))
    made.file("old storages that lie", "a.pth", old)


def text(value: str) -> bytes:
    """The step of a pickle that makes a text."""
    encoded = value.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


ORDERED = b"ccollections\nOrderedDict\n"
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"


def storage(name: str = "0", count: bytes = b"K\4", last: bytes = b"t") -> bytes:
    """The steps that take a storage of floats; count: the step of how many."""
    return b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(name) + text("cpu") + count + last + b"Q"


def add_crowds(made: Zoo) -> None:
    """Pickles inside of all limits on their bytes, whose objects are far larger than they are."""
    shared = storage() + b"q\1" + ORDERED + b"q\2"
    tensor = b"(h\1K\0K\4\x85K\1\x85\x89h\2)Rt"
    crowds = {
        "storages that are called": (b"ctorch.storage\nUntypedStorage\nq\0(", b"h\0M\xff\xff\x85R", 200_000, b"l."),
        "storages that are called in a list": (
            b"ctorch.storage\nUntypedStorage\nq\0](", b"h\0M\xff\xff\x85R", 200_000, b"e."
        ),
        "storages that are made": (b"ctorch.storage\nTypedStorage\nq\0](", b"h\0)\x81", 300_000, b"e."),
        "parameters of nothing": (b"ctorch.nn.parameter\nParameter\nq\0](", b"h\0)R", 333_000, b"e."),
        "parameters that are made": (b"ctorch.nn.parameter\nParameter\nq\0](", b"h\0)\x81", 333_000, b"e."),
        "a list of dicts": (b"](", b"}", 1_000_000, b"e."),
        "a list of lists": (b"](", b"]", 1_000_000, b"e."),
        "a list of sets": (b"](", b"\x8f", 1_000_000, b"e."),
        "a list of tuples": (b"](", b"N\x85", 500_000, b"e."),
        "a list of numbers": (b"](", b"M\xff\xff", 900_000, b"e."),
        "a list of texts": (b"](", text("\u0416"), 500_000, b"e."),
        "a list of marks": (b"", b"(", 1_000_000, b"."),
        "a memo of many": (b"}", b"".join(b"r" + struct.pack("<I", n) for n in range(500_000)), 1, b"."),
        "ordered dicts": (b"](" + ORDERED + b"q\0", b"h\0)R", 333_000, b"e."),
        "trainers' objects": (b"](cargparse\nNamespace\nq\0", b"h\0)\x81", 333_000, b"e."),
        "dicts of the same list": (
            b"](" + b"](K\1K\2e" * 3000 + b"eq\1](" + ORDERED + b"q\2", b"h\2h\1\x85R", 3000, b"e."
        ),
        "the same attributes": (
            b"}q\1(" + b"".join(b"M" + struct.pack("<H", n) + b"N" for n in range(3000))
            + b"u](" + ORDERED + b"q\2", b"h\2)Rh\1b", 3000, b"e.",
        ),
        "items of a dict": (b"}(", b"".join(b"J" + struct.pack("<i", n) + b"N" for n in range(400_000)), 1, b"u."),
        "tensors of the same numbers": (
            shared + b"](" + REBUILD + b"q\3" + tensor + b"q\4", b"h\3h\4R", 300_000, b"e."
        ),
        "storages of the same name": (b"](" + storage(last=b"tq\1"), b"h\1Q", 300_000, b"e."),
        "storages of nothing": (b"](" + storage(count=b"K\0", last=b"tq\1"), b"h\1Q", 300_000, b"e."),
        "bytes of bytes": (
            b"](c_codecs\nencode\nq\1" + text("a" * 100_000) + text("latin1") + b"\x86q\2", b"h\1h\2R", 10_000, b"e.",
        ),
        "letters of four bytes": (b"](", text("\U0001f600" + "a" * 2_000_000), 4, b"e."),
        "one long text": (b"", text("\U0001f600" + "a" * 11_000_000), 1, b"."),
    }  # fmt: skip
    pinned = {"storages that are called in a list", "parameters of nothing", "a list of dicts", "one long text",
              "tensors of the same numbers", "bytes of bytes"}  # fmt: skip
    for name, (begin, step, times, end) in crowds.items():
        content = zipped(b"\x80\x02" + begin + step * times + end, **{"data/0": bytes(16)})
        made.file(f"{name}, zip", "a.pth", content, pinned=name in pinned)
    for name in ("a list of dicts", "ordered dicts", "storages of nothing"):
        begin, step, times, end = crowds[name]
        begin = begin.replace(text("cpu") + b"K\0", text("cpu") + b"K\0N")
        made.file(f"{name}, old", "a.pt", old(b"\x80\x02" + begin + step * times + end))
    for name, letters in {"utf-32": "utf-32", "utf-16": "utf-16", "utf-7": "utf-7"}.items():
        encoded = b"\x80\x02c_codecs\nencode\n" + text("a" * 1_000_000) + text(letters) + b"\x86R."
        made.file(f"letters encoded as {name}", "a.pth", zipped(encoded))
    long = b"\x80\x02c_codecs\nencode\n" + text("a" * 15_000_000) + text("utf-32") + b"\x86R."
    made.file("15 million letters encoded as utf-32", "a.pth", zipped(long))


def old(pickled: bytes, keys: bytes = b"\x80\x02].", data: bytes = b"") -> bytes:
    """A file as torch < 1.6 writes it, around any pickle; keys: the list of its storages' names."""
    whole = saved({}, False)
    at = whole.rindex(pickle.dumps({}, 2))
    return whole[:at] + pickled + keys + data


def add_lies(made: Zoo) -> None:
    """Pickles of few steps that torch's reader stumbles over, or that cost it far more than they hold."""
    huge = b"\x8a\5" + (10**10).to_bytes(5, "little")
    extent = b"(" + storage() + b"K\0" + huge + b"\x85K\1\x85\x89}tR"
    entered = b"}" + text("a")
    lies = {
        "an attribute named items": ORDERED + b")R}" + text("items") + b"K\1sb.",
        "an attribute named get": ORDERED + b")R}" + text("get") + b"K\1sb.",
        "a tensor larger than its storage": entered + REBUILD + extent + b"s.",
        "a tensor of 100,000 dimensions": entered + REBUILD + b"(" + storage() + b"K\0(" + b"K\1" * 100_000
        + b"t(" + b"K\1" * 100_000 + b"t\x89}tRs.",
        "a dict of a tensor's rows": b"(" + storage() + b"q\1" + ORDERED + REBUILD
        + b"(h\1K\0" + b"J\x00\x00\x10\x00K\2\x86K\0K\0\x86\x89}tR\x85R.",
        "a size of a tensor's rows": b"ctorch\nSize\n" + REBUILD + b"(" + storage()
        + b"K\0J\x00\x00\x10\x00\x85K\0\x85\x89}tR\x85R.",
        "a storage of a list of numbers": b"](" + b"N" * 900_000 + b"eq\7" + storage(count=b"h\7") + b".",
        "a storage named by lists in lists": b"]q\7" + b"](h\7h\7eq\7" * 40
        + storage().replace(text("0"), b"h\7") + b".",
        "keys of a tuple of a thousand, a thousand times": b"(" + b"K\1" * 2000 + b"tq\1" + b"(" + b"h\1" * 2000
        + b"tq\2(" + b"h\2" * 2000 + b"tq\3}(" + b"h\3N" * 20 + b"u.",
        "keys that share a place": b"}(" + b"".join(
            b"\x8a\x0b" + (n * (2**61 - 1)).to_bytes(11, "little") + b"N" for n in range(1, 60_000)
        ) + b"u.",
        "a key of a list": b"}](K\1eNs.",
        "a key of a tensor": b"}" + REBUILD + b"(" + storage() + b"K\0K\4\x85K\1\x85\x89}tRNs.",
    }  # fmt: skip
    pinned = {"an attribute named items", "keys of a tuple of a thousand, a thousand times",
              "a storage named by lists in lists", "a dict of a tensor's rows"}  # fmt: skip
    for name, pickled in lies.items():
        content = zipped(b"\x80\x02" + pickled, **{"data/0": bytes(16)})
        made.file(name, "a.pth", content, pinned=name in pinned)
    gone = b"\x80\x02}" + text("a") + REBUILD + b"(" + storage(count=huge + b"N") + b"K\0" + huge
    gone += b"\x85K\1\x85\x89}tRs."
    made.file("an old storage of 40 GB that is not there", "a.pt", old(gone), pinned=True)
    gone = gone.replace(huge, b"J" + struct.pack("<i", 5 * 10**7))
    made.file("an old storage of 200 MB that is not there", "a.pt", old(gone), pinned=True)
    grown = gone.replace(b"J" + struct.pack("<i", 5 * 10**7), b"K\4", 1)
    made.file("an old storage that a tensor enlarges", "a.pt", old(grown), pinned=True)
    made.file(
        "two tensors of a name",
        "a.pth",
        saved({"a.b": torch.ones(2), "a": {"b": torch.zeros(2)}}),
        pinned=True,
    )
    made.file("a number and its text", "a.pth", saved({1: torch.ones(2), "1": torch.zeros(2)}))
    made.file("a negated tensor", "a.pth", saved({"a": torch._neg_view(torch.ones(2))}), OPENS, pinned=True)
    made.file(
        "a tensor named as metadata",
        "a.pth",
        saved({"__metadata__": torch.ones(2), "b": torch.ones(1)}),
        OPENS,
    )
    made.file("a tensor named by half a letter", "a.pth", saved({"\ud800x": torch.ones(2)}), OPENS)
    made.file("complex numbers", "a.pth", saved({"a": torch.ones(2, dtype=torch.complex64)}))


def branching(levels: int, times: int) -> dict:
    """A dict that holds one dict so many times, which does the same, down to a tensor."""
    branch: dict = {"a": torch.ones(1)}
    for _ in range(levels):
        branch = {str(number): branch for number in range(times)}
    return branch


def add_archives(made: Zoo) -> None:
    whole = saved(STATE)
    made.file("a zip bomb", "a.pth", zipped(b"\0" * 100_000_000, zipfile.ZIP_DEFLATED), pinned=True)
    made.file("two archives in one", "a.pth", twofold(), pinned=True)
    made.file("an archive of 64 bits that contradicts itself", "a.pth", contradicting(whole), pinned=True)
    for name, content in {
        "bytes before an archive": b"PK\3\4" + bytes(60) + whole,
        "bytes after an archive": whole + bytes(30),
        "an archive with a comment": whole[:-2] + b"\5\0hello",
        "an archive in a comment": whole[:-2] + struct.pack("<H", len(whole)) + whole,
        "a list of tensors in other letters": zipped(
            pickle.dumps({}, 2), **{"DATA.PKL": pickle.dumps({}, 2)}
        ),
        "a name that ends with a zero": zipped(pickle.dumps({}, 2), **{"data.pkl~x": b"}."}).replace(
            b"pkl~x", b"pkl\0x"
        ),
    }.items():
        made.file(name, "a.pth", content)
    made.file("a byte order of 40 million letters", "a.pth", ordered_by(40_000_000), pinned=True)
    made.file("70 million bytes of a list of tensors", "a.pth", zipped(bytes(70_000_000)), pinned=True)
    bomb = zipped(pickle.dumps({}, 2), zipfile.ZIP_DEFLATED, **{"data/0": b"\0" * 100_000_000})
    made.file("a bomb of data", "a.pth", bomb)
    made.file("a zip in a zip", "a.pth", zipped(whole))
    made.file(
        "two lists of tensors", "a.pth", zipped(pickle.dumps({}, 2), **{"b/data.pkl": pickle.dumps({}, 2)})
    )
    made.file(
        "names that lead out", "a.pth", zipped(pickle.dumps({}, 2), **{"../../x": b"a", "/etc/x": b"b"})
    )
    made.file(
        "a script", "a.pt", zipped(pickle.dumps({}, 2), **{"constants.pkl": b"\x80\x02).", "code/a.py": b"1"})
    )
    for count in (10_000, 60_000):
        entries = {f"data/{n}": b"" for n in range(count)}
        made.file(f"{count} entries", "a.pth", zipped(pickle.dumps({}, 2), **entries))
    made.file("one entry 150,000 times", "a.pth", listed(150_000), pinned=True)
    pictures = io.BytesIO()
    with zipfile.ZipFile(pictures, "w") as archive:
        archive.writestr("a.txt", "hello")
    made.file("another zip", "a.pth", pictures.getvalue())
    at = whole.rindex(b"PK\x01\x02")
    for name, place, value in (("packed", 10, 8), ("encrypted", 8, 1), ("size", 24, 0xFFFF)):
        made.file(
            f"a directory that lies about {name}",
            "a.pth",
            patched(whole, at + place, struct.pack("<H", value)),
        )
    tape = io.BytesIO()
    with tarfile.open(fileobj=tape, mode="w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO(b""))
    made.file("the tar format", "a.pth", tape.getvalue())
    made.file("a pickle named .safetensors", "a.safetensors", whole)


def directory(archive: bytes) -> tuple[bytes, bytes]:
    """Of an archive as Python writes it: (its entries, the list of them)."""
    length, begin = struct.unpack_from("<2L", archive, len(archive) - 10)
    return archive[:begin], archive[begin : begin + length]


def twofold() -> bytes:
    """An archive that Python reads as a harmless one and torch as a bomb.

    Python takes it that bytes were put before an archive, and adjusts the places that it gives.
    """
    bomb, bomb_list = directory(zipped(b"}" * 20_000_000, zipfile.ZIP_DEFLATED))
    good, good_list = directory(zipped(pickle.dumps({}, 2)))
    gap = bytes(512)
    begin = len(bomb) + len(gap)
    place = begin + len(good)
    moved, at = bytearray(good_list), 0
    while at < len(moved):
        (offset,) = struct.unpack_from("<L", moved, at + 42)
        struct.pack_into("<L", moved, at + 42, offset + begin - len(bomb_list))
        at += 46 + sum(struct.unpack_from("<3H", moved, at + 28))
    assert len(bomb_list) == len(moved)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 3, 3, len(moved), place, 0)
    return bomb + gap + good + bomb_list + bytes(moved) + end


def contradicting(whole: bytes) -> bytes:
    """torch's file, whose locator leads to another end than the one before it, with an empty list."""
    end = whole.rindex(b"PK\6\6")
    other = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 30, 45, 0, 0, 0, 0, 0, end)
    return whole[:end] + other + patched(whole[end:], 64, struct.pack("<Q", end))


def listed(times: int) -> bytes:
    """An archive that lists its last entry so often."""
    entries, names = directory(zipped(pickle.dumps({}, 2)))
    names += names[names.rindex(b"PK\1\2") :] * times
    return entries + names + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 3, 3, len(names), len(entries), 0)


def ordered_by(length: int) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in {"data.pkl": b"\x80\x02}.", "version": b"3\n", "byteorder": b"a" * length}.items():
            archive.writestr(f"archive/{name}", data)
    return stream.getvalue()


def patched(content: bytes, at: int, value: bytes) -> bytes:
    return content[:at] + value + content[at + len(value) :]


def add_strangers(made: Zoo) -> None:
    contents = {
        "empty": b"", "one byte": b"\x80", "text": b"hello world", "zeros": b"\0" * 1000,
        "noise": bytes(range(256)) * 9,
        "html": b"<!DOCTYPE html><html>", "a git pointer": b"version https://git-lfs.github.com/spec/v1\n",
        "gguf": b"GGUF\3\0\0\0" + b"\0" * 99, "gzip": b"\x1f\x8b" + b"\0" * 99,
        "7z": b"7z\xbc\xaf\x27\x1c" + b"\0" * 99,
        "a braces' file": b"\0" * 8 + b"{", "hdf5": b"\x89HDF\r\n\x1a\n" + b"\0" * 99,
    }  # fmt: skip
    for name, content in contents.items():
        for file in ("a.safetensors", "a.ckpt"):
            made.file(f"{name} as {file}", file, content)


# ---- whole files with wrong contents -------------------------------------------------------------------


def demo_files() -> list[Path]:
    return sorted((Path(xdyna_unianimate.__file__).parent / "demo" / "weights").glob("*.safetensors"))


def add_numbers(made: Zoo, files: list[Path]) -> None:
    """Embedded weights with numbers that cannot be used, of other shapes and types, and without some."""
    from safetensors import safe_open

    for file in files:
        with safe_open(file, framework="pt") as opened:
            metadata, state = opened.metadata(), {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        name = max(state, key=lambda key: state[key].numel())
        value = state[name]
        changes = {
            "NaN": value.float().index_fill(0, torch.tensor([0]), float("nan")),
            "infinity": value.float().index_fill(0, torch.tensor([0]), float("inf")),
            "another shape": value.flatten()[:-1],
            "another rank": value[None],
            "no numbers": value[:0],
            "integers": value.to(torch.int32),
            "8 bits": value.to(torch.float8_e4m3fn),
        }
        for kind, changed in changes.items():
            content = save({**state, name: changed.contiguous()}, metadata)
            made.file(f"{kind} in {file.name}", file.name, content, OPENS)
        rest = {key: state[key] for key in state if key != name}
        made.file(f"{file.name} without {name}", file.name, save(rest, metadata), OPENS)
        made.file(
            f"{file.name} with more", file.name, save({**state, "more": torch.ones(1)}, metadata), OPENS
        )


CONFIGS = (
    "", "x", "[]", "7", "null", "{", "[" * 5000, '{"a": ' * 5000, '{"unknown": 1}', '{"dim": null}', '{"dim": "wide"}',
    '{"dim": 1000000000}', '{"dim": 0}', '{"dim": -320}', '{"dim": 1e30}', '{"dim": NaN}', '{"dim_mult": []}',
    '{"num_res_blocks": 1000000}', '{"dim_mult": [1, 2, 4, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096]}',
    '{"block_out_channels": [0, 0, 0, 0]}', '{"block_out_channels": "wide"}', '{"block_out_channels": []}',
    '{"block_out_channels": [33, 33, 33, 33]}', '{"block_out_channels": [320, 1000000000, 1, 1]}',
    '{"layers_per_block": 1000000}', '{"layers_per_block": -1}', '{"layers_per_block": "2"}', '{"norm_num_groups": 0}',
    '{"motion_max_frames": 1000000000}', '{"attention_heads": 0}', '{"motion_heads": 7}', '{"depth": 1000000}',
    '{"num_hidden_layers": 1000000}', '{"num_attention_heads": 0}', '{"hidden_act": "system"}', '{"patch_size": 0}',
    '{"image_size": 1000000000}', '{"vocab_size": -1}', '{"latents_mean": "x"}', '{"scaling_factor": "x"}',
    '{"scaling_factor": 0}', '{"latent_channels": 0}', '{"heads": 0}', '{"num_queries": -1}', '{"embedding_dim": 0}',
)  # fmt: skip
"""Architectures that no network has, for metadata."""


def add_architectures(made: Zoo) -> None:
    for number, config in enumerate(CONFIGS):
        metadata = {key: config for key in ("config", "vae_config", "text_config", "vision_config")}
        made.file(f"architecture {config[:40]}", f"{number}.safetensors", save(STATE, metadata), OPENS)


# ---- ONNX ----------------------------------------------------------------------------------------------


def network(
    shapes: list[list], outputs: int, operation: str = "Relu", external: str = "", domain: str = ""
) -> bytes:
    """An ONNX network of inputs of these shapes and so many outputs; ``external``: a file its weights lie in."""
    from onnx import TensorProto, helper

    inputs = [
        helper.make_tensor_value_info(f"x{i}", TensorProto.FLOAT, shape) for i, shape in enumerate(shapes)
    ]
    weights = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1])
    if external:
        weights.data_location = TensorProto.EXTERNAL
        place = weights.external_data.add()
        place.key, place.value = "location", external
    else:
        weights.float_data.append(1.0)
    first = "x0" if shapes and not external else "w"
    nodes = [helper.make_node(operation, [first], [f"y{i}"], domain=domain) for i in range(outputs)]
    results = [helper.make_tensor_value_info(f"y{i}", TensorProto.FLOAT, None) for i in range(outputs)]
    graph = helper.make_graph(nodes, "g", inputs, results, [weights])
    versions = [helper.make_opsetid("", 17), helper.make_opsetid("strange", 1)]
    return helper.make_model(graph, opset_imports=versions, ir_version=9).SerializeToString()


def bombs() -> dict[str, bytes]:
    """Networks of a hundred bytes that become a gigabyte when they are opened: written out, or computed."""
    from onnx import TensorProto, helper

    x = helper.make_tensor_value_info("x0", TensorProto.FLOAT, [1, 3, 64, 64])
    y = helper.make_tensor_value_info("y0", TensorProto.FLOAT, None)
    many = helper.make_tensor("n", TensorProto.INT64, [1], [2**28])
    one = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
    sparse = helper.make_sparse_tensor(one, helper.make_tensor("i", TensorProto.INT64, [1], [3]), [2**28])
    nodes = {
        "computed": [("ConstantOfShape", ["n"], "c"), ("ReduceSum", ["c"], "w"), ("Add", ["x0", "w"], "y0")],
        "computed for nothing": [("ConstantOfShape", ["n"], "c"), ("Relu", ["x0"], "y0")],
        "repeated": [("Expand", ["o", "n"], "c"), ("ReduceSum", ["c"], "w"), ("Add", ["x0", "w"], "y0")],
        "sparse": [("Add", ["x0", "w"], "y0")],
    }
    made = {}
    for name, rows in nodes.items():
        steps = [helper.make_node(kind, given, [result]) for kind, given, result in rows]
        scalar = helper.make_tensor("o", TensorProto.FLOAT, [1], [1.0])
        weights = {"sparse_initializer": [sparse]} if name == "sparse" else {"initializer": [many, scalar]}
        graph = helper.make_graph(steps, "g", [x], [y], **weights)
        versions = [helper.make_opsetid("", 17)]
        made[name] = helper.make_model(graph, opset_imports=versions, ir_version=9).SerializeToString()
    return made


def add_networks(made: Zoo) -> None:
    plain = [1, 3, 64, 64]
    whole = network([plain], 1)
    cases = {
        "another network": whole,
        "no inputs": network([], 1),
        "two inputs": network([plain, plain], 1),
        "an input of two dimensions": network([[1, 3]], 1),
        "an input of any size": network([[1, 3, "h", "w"]], 1),
        "an input of a million pixels": network([[1, 3, 1_000_000, 1_000_000]], 1),
        "an unknown operation": network([plain], 1, "System"),
        "an operation of another library": network([plain], 1, "System", domain="strange"),
        "weights in /etc": network([plain], 1, external="/etc/passwd"),
        "weights further up": network([plain], 1, external="../0000/a.safetensors"),
        "weights that are not there": network([plain], 1, external="weights.bin"),
        "cut": whole[: len(whole) // 2],
        "text": b"ir_version: 9",
        "nothing": b"",
        **{f"a bomb, {name}": content for name, content in bombs().items()},
    }
    for name, content in cases.items():
        made.file(f"onnx, {name}", "a.onnx", content)
