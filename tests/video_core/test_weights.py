"""Opening hostile, odd and honest checkpoints; loading them exactly and within their memory."""

from __future__ import annotations

import collections
import gc
import io
import json
import os
import pickle
import pickletools
import struct
import subprocess
import sys
import types
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn
from xdyna_unianimate.app.convert import convert
from xdyna_unianimate.video_core import weights
from xdyna_unianimate.video_core.pickles import INERT_NAMES, TENSOR_NAMES
from xdyna_unianimate.video_core.weights import (
    CheckpointError,
    Renamed,
    built,
    fitted,
    load_exactly,
    open_checkpoint,
    read_config,
    save_checkpoint,
    under,
)

SOURCE = "the little net"


def net(device: str = "cpu") -> nn.Sequential:
    with torch.device(device):
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def write(path: Path, kind: str, state: dict) -> Path:
    if kind == "safetensors":
        save_file(state, path)
    else:
        wrapped = {"state_dict": state, "epoch": 7} if kind == "wrapped" else state
        torch.save(wrapped, path, _use_new_zipfile_serialization=kind != "legacy")
    return path


def refused(path: Path) -> str:
    """The one sentence with which opening and reading everything fails."""
    with pytest.raises(CheckpointError) as caught:
        dict(open_checkpoint(path))
    text = str(caught.value)
    assert str(path) in text and "\n" not in text and text.endswith("."), text
    return text


# ---- honest files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["safetensors", "zip", "wrapped", "legacy"])
@pytest.mark.parametrize("name", ["weights.bin", "гвоздь é 重み.pth"])
def test_every_kind_loads_into_a_net_built_on_meta(tmp_path: Path, kind: str, name: str) -> None:
    ours = net()
    loaded = load_exactly(
        net("meta"), open_checkpoint(write(tmp_path / name, kind, ours.state_dict())), source=SOURCE
    )
    for key, value in ours.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key


def test_cast_touches_floats_only(tmp_path: Path) -> None:
    path = write(tmp_path / "a.pth", "zip", net().state_dict())
    state = load_exactly(net("meta"), open_checkpoint(path), source=SOURCE, dtype=torch.bfloat16).state_dict()
    assert state["0.weight"].dtype == torch.bfloat16
    assert state["1.num_batches_tracked"].dtype == torch.int64


def test_loaded_weights_do_not_depend_on_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", "safetensors", net().state_dict())
    loaded = load_exactly(net("meta"), open_checkpoint(path), source=SOURCE)
    before = loaded[0].weight.clone()
    path.write_bytes(b"\0" * path.stat().st_size)
    assert torch.equal(loaded[0].weight, before)


def test_tied_parameters_stay_tied(tmp_path: Path) -> None:
    def tied(device: str) -> nn.Module:
        with torch.device(device):
            module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        module[1].weight = module[0].weight
        return module

    path = write(tmp_path / "a.pth", "zip", tied("cpu").state_dict())
    loaded = load_exactly(tied("meta"), open_checkpoint(path), source=SOURCE)
    assert loaded[1].weight is loaded[0].weight
    assert loaded[1].bias is not loaded[0].bias


def test_trainers_bookkeeping_is_passed_over(tmp_path: Path) -> None:
    """Stable Diffusion's .ckpt files name lightning's callback class and numpy scalars; neither is loaded."""
    name = "pytorch_lightning.callbacks.model_checkpoint"
    callback = type("ModelCheckpoint", (), {"__module__": name})
    leftovers = {"callbacks": {callback: {"best": np.float64(3)}, "object": callback()}}
    with pytest.MonkeyPatch.context() as patch:
        for depth in (1, 2, 3):
            parent = ".".join(name.split(".")[:depth])
            patch.setitem(sys.modules, parent, types.ModuleType(parent))
        sys.modules[name].ModelCheckpoint = callback
        torch.save(leftovers | {"state_dict": {"a": torch.ones(2)}}, tmp_path / "a.ckpt")
    assert list(open_checkpoint(tmp_path / "a.ckpt")) == ["a"]


def test_nested_dictionaries_become_dotted_names(tmp_path: Path) -> None:
    torch.save(
        {"image_proj": {"latents": torch.ones(2)}, "ip_adapter": {"1.to_k": torch.zeros(1)}},
        tmp_path / "a.bin",
    )
    checkpoint = open_checkpoint(tmp_path / "a.bin")
    assert sorted(checkpoint) == ["image_proj.latents", "ip_adapter.1.to_k"]
    assert list(under(checkpoint, "image_proj.")) == ["latents"]


def test_reading_goes_on_after_release_and_notices_a_replaced_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", "safetensors", {"a": torch.ones(3), "b": torch.zeros(3)})
    checkpoint = open_checkpoint(path)
    assert checkpoint["a"].sum() == 3
    checkpoint.release()
    assert checkpoint["b"].sum() == 0
    checkpoint.release()
    write(tmp_path / "new", "safetensors", {"a": torch.zeros(30)})
    (tmp_path / "new").replace(path)
    with pytest.raises(CheckpointError, match="replaced while it was being read"):
        checkpoint["a"]


@pytest.mark.parametrize("kind", ["safetensors", "zip"])
@pytest.mark.parametrize("content", [b"", bytes(5000)], ids=["cut", "another"])
def test_a_file_that_is_written_into_while_it_is_mapped_is_noticed(
    tmp_path: Path, kind: str, content: bytes
) -> None:
    """What is gone of a mapped file ends the process; what is new in it would be mixed with the old."""
    path = write(tmp_path / "a", kind, {"a": torch.ones(3000), "b": torch.zeros(3000)})
    checkpoint = open_checkpoint(path)
    assert checkpoint["a"].sum() == 3000
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="replaced while it was being read"):
        checkpoint["b"]


def test_renamed_reshapes_lazily() -> None:
    stacked = {"qkv": torch.arange(6.0), "unused": torch.zeros(1)}
    ours = Renamed(stacked, {"q": ("qkv", lambda t: t.chunk(3)[0]), "all": "qkv"})
    assert list(ours) == ["q", "all"] and len(ours) == 2
    assert ours["q"].tolist() == [0, 1]


@dataclass(frozen=True)
class Architecture:
    width: int = 8
    mult: tuple[int, ...] = (1, 2)


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({}, Architecture()),
        ({"config": '{"width": 3, "mult": [1, 2, 4]}'}, Architecture(3, (1, 2, 4))),
        ({"config": '{"height": 3}'}, None),
        ({"config": "[1]"}, None),
        ({"config": "{"}, None),
    ],
)
def test_architecture_travels_in_the_metadata(
    tmp_path: Path, metadata: dict, expected: Architecture | None
) -> None:
    save_checkpoint(tmp_path / "a.safetensors", {"a": torch.ones(1)}, metadata)
    checkpoint = open_checkpoint(tmp_path / "a.safetensors")
    if expected is None:
        with pytest.raises(CheckpointError, match="Architecture"):
            read_config(checkpoint, Architecture())
    else:
        assert read_config(checkpoint, Architecture()) == expected


# ---- exactness -----------------------------------------------------------------------------------------


def test_one_error_lists_everything_that_does_not_fit(tmp_path: Path) -> None:
    state = net().state_dict()
    del state["0.bias"]
    state["2.weight"] = torch.zeros(5, 5)
    state.update({f"stranger.{i}": torch.zeros(1) for i in range(40)})
    path = write(tmp_path / "a.safetensors", "safetensors", state)
    module = net("meta")
    with pytest.raises(CheckpointError) as caught:
        load_exactly(module, open_checkpoint(path), source=SOURCE)
    text = str(caught.value)
    for part in (
        "1 missing (0.bias)",
        "40 unexpected",
        "34 more",
        "2.weight is [5, 5] and should be [2, 4]",
        SOURCE,
        str(path),
    ):
        assert part in text, (part, text)
    assert len(text) < 1000
    assert module[0].weight.is_meta, "a failed load changes nothing"


def test_another_model_s_file_is_called_by_its_name() -> None:
    stranger = {"decoder.conv_in.weight": torch.zeros(1), "decoder.conv_out.weight": torch.zeros(1)}
    with pytest.raises(CheckpointError, match="It looks like an image autoencoder"):
        load_exactly(net("meta"), stranger, source=SOURCE)


@pytest.mark.parametrize(
    ("value", "dtype", "reason"),
    [
        (torch.zeros(4, 3).to(torch.float8_e4m3fn), None, "float8_e4m3fn"),
        (torch.zeros(4, 3, dtype=torch.int8), None, "int8"),
        (torch.full((4, 3), float("nan")), None, "NaN or infinite"),
        (torch.full((4, 3), float("-inf")), None, "NaN or infinite"),
        (torch.full((4, 3), 1e6), torch.float16, "after conversion to torch.float16"),
    ],
)
def test_numbers_that_cannot_be_used(value: torch.Tensor, dtype: torch.dtype | None, reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason) as caught:
        load_exactly(net("meta"), net().state_dict() | {"0.weight": value}, source=SOURCE, dtype=dtype)
    assert "0.weight" in str(caught.value)


def test_a_buffer_that_no_file_holds_must_not_stay_on_meta() -> None:
    with torch.device("meta"):
        module = nn.Linear(2, 2)
        module.register_buffer("positions", torch.arange(3), persistent=False)
    with pytest.raises(RuntimeError, match="positions"):
        load_exactly(module, nn.Linear(2, 2).state_dict(), source=SOURCE)


# ---- memory --------------------------------------------------------------------------------------------

PEAK = """
import json, os, sys, torch
from torch import nn
from xdyna_unianimate.video_core.weights import load_exactly, open_checkpoint
import safetensors.torch
def status(key):
    return next(int(l.split()[1]) * 1024 for l in open("/proc/self/status") if l.startswith(key))
path, count, dtype = sys.argv[1], int(sys.argv[2]), getattr(torch, sys.argv[3])
with torch.device("meta"):
    module = nn.Sequential(*[nn.Linear(1024, 1024, bias=False) for _ in range(count)])
open("/proc/self/clear_refs", "w").write("5")
before = status("VmRSS")
load_exactly(module, open_checkpoint(path), source="peak", dtype=dtype)
print(json.dumps([status("VmHWM") - before, os.path.getsize(path)]))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads Linux's peak memory")
@pytest.mark.parametrize(
    ("kind", "dtype"), [("safetensors", "float32"), ("zip", "float32"), ("wrapped", "float16")]
)
def test_peak_memory_is_at_most_1_3_times_the_file(tmp_path: Path, kind: str, dtype: str) -> None:
    count = 60
    state = {f"{i}.weight": torch.full((1024, 1024), float(i)) for i in range(count)}
    path = write(tmp_path / "big", kind, state)
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(path), str(count), dtype], capture_output=True, text=True, check=True
    )
    peak, size = json.loads(done.stdout)
    print(f"{kind} to {dtype}: file {size / 1e6:.0f} MB, peak {peak / 1e6:.0f} MB = {peak / size:.2f} x")
    assert size > 200e6
    assert peak <= 1.3 * size


def test_saving_streams_and_reads_back(tmp_path: Path) -> None:
    state = {
        "half": torch.randn(3, 5).half(),
        "brain": torch.randn(4).bfloat16(),
        "turned": torch.randn(4, 6).t(),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "count": torch.tensor([1, 2]),
        "flags": torch.tensor([True, False, True]),
        "имя": torch.ones(1),
    }
    path = save_checkpoint(tmp_path / "a.safetensors", state, {"config": "{}"})
    for read in (load_file(path), dict(open_checkpoint(path))):
        assert sorted(read) == sorted(state)
        for name, value in state.items():
            assert read[name].dtype == value.dtype and torch.equal(read[name], value), name
    assert open_checkpoint(path).metadata == {"config": "{}"}


def test_a_failed_save_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    class Broken(dict):
        reads = 0

        def __getitem__(self, name: str) -> torch.Tensor:
            Broken.reads += 1
            if Broken.reads > 4:
                raise OSError(28, "No space left on device")
            return super().__getitem__(name)

    path = save_checkpoint(tmp_path / "a.safetensors", {"a": torch.ones(1)})
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(path, Broken(a=torch.zeros(5), b=torch.zeros(5)))
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]
    assert open_checkpoint(path)["a"].item() == 1


# ---- hostile files -------------------------------------------------------------------------------------


class Calls:
    """Pickles into a call of ``function(*arguments)``."""

    def __init__(self, function, *arguments) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def codes(canary: Path) -> dict[str, object]:
    touch = f"open({str(canary)!r}, 'w')"
    return {
        "os.system": Calls(os.system, f"touch {canary}"),
        "eval": Calls(eval, touch),
        "exec": Calls(exec, touch),
        "__import__": Calls(__import__, "antigravity"),
        "getattr chain": Calls(getattr, Calls(__import__, "os"), "system"),
        "open": Calls(open, str(canary), "w"),
        "bytearray bomb": Calls(bytearray, 10**12),
        "tensor bomb": Calls(torch.FloatTensor, 10**11),
        "partial": Calls(__import__("functools").partial, print, "ran"),
        "hub": Calls(torch.hub.load, "a/b", "c"),
        "counter": collections.Counter("abc"),
    }


@pytest.mark.parametrize("name", sorted(codes(Path("x"))))
@pytest.mark.parametrize("kind", ["zip", "legacy"])
def test_pickles_with_code_are_refused_and_nothing_runs(tmp_path: Path, name: str, kind: str) -> None:
    canary = tmp_path / "canary"
    path = tmp_path / "evil.pth"
    torch.save(
        {"state_dict": {"a": torch.ones(1)}, "x": codes(canary)[name]},
        path,
        _use_new_zipfile_serialization=kind == "zip",
    )
    started: list[str] = []
    watching = True

    def watch(event: str, arguments: tuple) -> None:
        if watching and event in (
            "os.system",
            "subprocess.Popen",
            "os.exec",
            "exec",
            "compile",
            "os.posix_spawn",
        ):
            started.append(event)

    sys.addaudithook(watch)
    try:
        assert "wants to import" in refused(path)
    finally:
        watching = False
    assert not canary.exists()
    assert not started


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_bare_pickles_of_every_protocol_with_code_are_refused(tmp_path: Path, protocol: int) -> None:
    canary = tmp_path / "canary"
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Calls(os.system, f"touch {canary}"), protocol))
    refused(tmp_path / "evil.pt")
    assert not canary.exists()


def zipped(path: Path, pickled: bytes, compression: int = zipfile.ZIP_STORED, **more: bytes) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled)
        for name, data in ({"version": b"3\n", "byteorder": b"little"} | more).items():
            archive.writestr(f"archive/{name}", data)
    return path


def test_zip_bombs_and_other_archives_are_refused(tmp_path: Path) -> None:
    bomb = zipped(tmp_path / "bomb.pth", b"\0" * 50_000_000, zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 100_000
    assert "compressed" in refused(bomb)
    with zipfile.ZipFile(tmp_path / "pictures.zip", "w") as archive:
        archive.writestr("a.txt", "hello")
    assert "not one that torch.save wrote" in refused(tmp_path / "pictures.zip")
    assert "longer than any real model" in refused(
        zipped(tmp_path / "many.pth", b"\x80\x02" + b"}" * (1 << 21) + b".")
    )


def test_persistent_ids_and_hidden_imports_are_refused(tmp_path: Path) -> None:
    refused(zipped(tmp_path / "persistent.pth", b"\x80\x02X\x05\x00\x00\x00othrsQ."))
    hidden = pickletools.optimize(pickle.dumps(Calls(os.system, "true"), 4))
    assert "hidden" in refused(zipped(tmp_path / "hidden.pth", hidden))


def test_torch_versions_that_can_be_made_to_run_code_read_no_pickles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "a.pth")
    save_file({"a": torch.ones(1)}, tmp_path / "a.safetensors")
    monkeypatch.setattr(torch, "__version__", "2.5.1+cu121")
    assert "update it" in refused(tmp_path / "a.pth")
    assert list(open_checkpoint(tmp_path / "a.safetensors")) == ["a"]


def test_a_tensor_larger_than_its_storage_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1).expand(10**6, 10**6)}, tmp_path / "a.pth")
    assert "more numbers" in refused(tmp_path / "a.pth")
    torch.save({"a": torch.ones(3).to_sparse()}, tmp_path / "b.pth")
    refused(tmp_path / "b.pth")


def raw(path: Path, header: dict | bytes, data: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def entry(start: int, end: int, shape: list[int], dtype: str = "F32") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


BAD_HEADERS = {
    "short data": ({"a": entry(0, 8, [2])}, b"\0" * 7),
    "extra data": ({"a": entry(0, 8, [2])}, b"\0" * 9),
    "overlap": ({"a": entry(0, 8, [2]), "b": entry(4, 12, [2])}, b"\0" * 12),
    "hole": ({"a": entry(0, 4, [1]), "b": entry(8, 12, [1])}, b"\0" * 12),
    "outside": ({"a": entry(2**40, 2**40 + 4, [1])}, b"\0" * 4),
    "backwards": ({"a": entry(4, 0, [1])}, b"\0" * 4),
    "wrong shape": ({"a": entry(0, 4, [2])}, b"\0" * 4),
    "overflow": ({"a": entry(0, 4, [2**40, 2**40])}, b"\0" * 4),
    "negative": ({"a": entry(0, 4, [-1])}, b"\0" * 4),
    "unknown dtype": ({"a": entry(0, 4, [1], "F99")}, b"\0" * 4),
    "no tensors": ({}, b""),
    "not an object": (b"{[1]}   ", b""),
    "duplicate": (b'{"a":%s,"a":%s}' % ((json.dumps(entry(0, 4, [1])).encode(),) * 2), b"\0" * 4),
    "deep": (b'{"a":' + b"[" * 100_000, b""),
    "bad utf-8": (b'{"\xff\xfe":1}', b""),
}


@pytest.mark.parametrize("name", BAD_HEADERS)
def test_dishonest_safetensors_headers_are_refused(tmp_path: Path, name: str) -> None:
    header, data = BAD_HEADERS[name]
    refused(raw(tmp_path / "a.safetensors", header, data))


@pytest.mark.parametrize("length", [0, 1, 10**6, 2**40, 2**63, 2**64 - 1])
def test_header_length_bombs_are_refused(tmp_path: Path, length: int) -> None:
    refused(raw(tmp_path / "a.safetensors", {"a": entry(0, 4, [1])}, b"\0" * 4, length))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (b"GGUF\x03\0\0\0", "GGUF"),
        (b"hello world, this is a text file", "no safetensors file"),
        (b"\0" * 5000, "no safetensors file"),
    ],
)
def test_files_that_people_take_for_checkpoints(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    assert reason in refused(tmp_path / "a.pth")


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    assert "folder" in refused(tmp_path)
    assert "No such file" in refused(tmp_path / "none.pth")
    torch.save({"a": torch.ones(1)}, tmp_path / "a.pth")
    (tmp_path / "a.pth").rename(tmp_path / "a.safetensors")
    assert "rename it to .pth" in refused(tmp_path / "a.safetensors")


def contents(kind: str) -> bytes:
    buffer = io.BytesIO()
    state = {f"layer.{i}.weight": torch.full((5, 3), float(i)) for i in range(6)}
    if kind == "safetensors":
        from safetensors.torch import save

        return save(state)
    torch.save(state, buffer, _use_new_zipfile_serialization=kind == "zip")
    return buffer.getvalue()


HONEST = {kind: contents(kind) for kind in ("safetensors", "zip", "legacy")}


@pytest.mark.parametrize("kind", HONEST)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_truncated_anywhere_is_one_sentence(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    whole = HONEST[kind]
    path = tmp_path / "a.pth"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    refused(path)


@pytest.mark.parametrize("kind", HONEST)
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_bytes_give_tensors_or_one_sentence(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    whole = bytearray(HONEST[kind])
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "a.pth"
    path.write_bytes(whole)
    try:
        read = dict(open_checkpoint(path))
    except CheckpointError as error:
        assert str(path) in str(error) and "\n" not in str(error)
    else:
        assert all(isinstance(t, torch.Tensor) for t in read.values())


def test_the_two_locks_share_no_table() -> None:
    """Our own table is narrower than torch's: no class that allocates by a number, no set, no device."""
    allocates_or_looks_up = {"builtins bytearray", "torch FloatTensor", "torch device", "builtins set"}
    assert not allocates_or_looks_up & (TENSOR_NAMES | INERT_NAMES)


# ---- architectures that files describe -----------------------------------------------------------------


@dataclass(frozen=True)
class Little:
    width: int = 8
    layers: int = 2
    factor: float = 0.5
    widths: tuple[int, ...] = (4, 8)
    mean: tuple[float, ...] | None = None


@pytest.mark.parametrize(
    "stored",
    [
        {"width": "8"}, {"width": -1}, {"width": 10**9}, {"width": True}, {"width": 8.0}, {"width": None},
        {"width": [8]},
        {"factor": "x"}, {"factor": 1e300}, {"factor": float("nan")}, {"widths": 8}, {"widths": []}, {"widths": [[4]]},
        {"widths": [4] * 1000}, {"widths": ["4"]}, {"mean": "x"}, {"mean": [None]}, {"other": 1}, [1], "x", None,
    ],
)  # fmt: skip
def test_an_architecture_of_other_types_or_giants_is_refused(stored: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        fitted(Little(), stored)


def test_an_architecture_that_fits_is_taken() -> None:
    stored = {"width": 16, "factor": 1, "widths": [4, 8, 16], "mean": [0.5, -0.5]}
    assert fitted(Little(), stored) == Little(16, 2, 1, (4, 8, 16), (0.5, -0.5))
    assert fitted(Little(), {"mean": None}) == Little()


@pytest.mark.parametrize("layers", [0, 30_000])
def test_a_network_that_cannot_be_built_is_one_sentence(layers: int) -> None:
    def network(config: Little) -> nn.Module:
        return nn.Sequential(
            *[nn.Linear(config.width // config.layers, 1) for _ in range(config.layers or 1)]
        )

    with pytest.raises(CheckpointError, match="a network that cannot be built") as caught:
        built(network, Little(layers=layers), {})
    assert "\n" not in str(caught.value)
    assert built(network, Little(), {})[0].weight.is_meta


def test_an_encrypted_archive_is_refused(tmp_path: Path) -> None:
    content = bytearray(zipped(tmp_path / "a.pth", b"\x80\x02}.").read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "a.pth").write_bytes(content)
    assert "damaged or no torch checkpoint" in refused(tmp_path / "a.pth")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.pth")
    assert "no file that can be read" in refused(tmp_path / "a.pth")


@pytest.mark.parametrize("dtype", weights.READ_DTYPES.values(), ids=list(weights.READ_DTYPES))
def test_every_type_is_read_as_safetensors_reads_it(tmp_path, dtype):
    bits = torch.randint(0, 2, (3, 8), dtype=torch.uint8).repeat(1, 8)
    tensors = {
        "odd": torch.ones(3, dtype=torch.uint8),
        "a": bits.view(dtype),
        "none": torch.empty(0, 4, dtype=dtype),
    }
    save_file(tensors, tmp_path / "a.safetensors")
    opened, theirs = open_checkpoint(tmp_path / "a.safetensors"), load_file(tmp_path / "a.safetensors")
    assert set(opened) == set(theirs)
    for name, tensor in theirs.items():
        assert opened[name].dtype == tensor.dtype and opened[name].shape == tensor.shape
        assert opened[name].view(torch.uint8).tolist() == tensor.view(torch.uint8).tolist()


def test_reading_leaves_no_objects_behind(tmp_path):
    """safetensors' own reader left two numbers for every tensor: 33 MB after 200 runs in one process."""
    save_file({f"{i}": torch.zeros(300 + i) for i in range(50)}, tmp_path / "a.safetensors")

    def read() -> None:
        for tensor in open_checkpoint(tmp_path / "a.safetensors").values():
            assert not tensor.any()

    read()
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(20):
        read()
    gc.collect()
    assert sys.getallocatedblocks() - before < 200


def test_more_dimensions_than_torch_knows_are_one_sentence(tmp_path):
    header = json.dumps({"a": {"dtype": "F32", "shape": [1] * 65, "data_offsets": [0, 4]}}).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    with pytest.raises(CheckpointError, match="a.safetensors was refused: 'a' has 65 dimensions"):
        open_checkpoint(path)["a"]


# ---- lists that grow in memory -------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["{},", "[],", "7,", '"",', '{"a":[[[1]]]},'])
def test_a_header_that_becomes_far_larger_than_it_is(part: str, tmp_path: Path) -> None:
    text = f'{{"a":[{part * (3_900_000 // len(part))}0]}}'.encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    with pytest.raises(CheckpointError, match="its header lists more than any real model needs"):
        open_checkpoint(tmp_path / "a.safetensors")


def test_metadata_may_hold_anything(tmp_path: Path) -> None:
    """Trainers store all captions of their pictures, as JSON in a text."""
    text = json.dumps({f'a {i}, \\ "b"': [[{}], i] for i in range(40_000)})
    save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors", {"tags": text})
    assert open_checkpoint(tmp_path / "a.safetensors").metadata["tags"] == text


def test_many_tensors_are_no_bomb(tmp_path: Path) -> None:
    """As many as a network may have."""
    tensors = {f"a long name of a layer {i}": torch.ones(1, 1, 1, 1) for i in range(9_500)}
    save_file(tensors, tmp_path / "a.safetensors")
    assert len(open_checkpoint(tmp_path / "a.safetensors")) == 9_500


def test_an_archive_of_entries_alone(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
        for number in range(25_000):
            archive.writestr(f"archive/data/{number}", b"")
    with pytest.raises(CheckpointError, match="its archive lists more entries than any real model needs"):
        open_checkpoint(tmp_path / "a.pth")


# ---- archives and pickles that only look small ---------------------------------------------------------


def of_other_offsets(whole: bytes) -> bytes:
    """A file with bytes before its archive, whose end gives every place as if they were not there."""
    return b"PK\3\4" + bytes(508) + whole


@pytest.mark.parametrize(
    "spoil",
    [
        of_other_offsets,
        lambda whole: whole[:-2] + struct.pack("<H", 4) + b"text",
        lambda whole: whole[:-6] + struct.pack("<L", 7) + whole[-2:],
        lambda whole: whole[:-34] + struct.pack("<Q", 7) + whole[-26:],
        lambda whole: whole + whole[-22:],
    ],
    ids=["bytes before it", "a comment", "another place", "another locator", "two ends"],
)
def test_an_archive_that_reads_in_two_ways_is_refused(spoil, tmp_path: Path) -> None:
    torch.save({"a": torch.ones(3)}, tmp_path / "a.pth")
    whole = (tmp_path / "a.pth").read_bytes()
    (tmp_path / "b.pth").write_bytes(spoil(whole))
    assert "archive" in refused(tmp_path / "b.pth")


def test_an_archive_that_was_packed_anew_is_read(tmp_path: Path) -> None:
    """By any program that stores and does not compress: without torch's 64-bit end."""
    torch.save({"a": torch.ones(3)}, tmp_path / "a.pth")
    with zipfile.ZipFile(tmp_path / "a.pth") as old, zipfile.ZipFile(tmp_path / "b.pth", "w") as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    assert open_checkpoint(tmp_path / "b.pth")["a"].tolist() == [1, 1, 1]


def test_names_that_torch_takes_for_one_are_refused(tmp_path: Path) -> None:
    assert "twice" in refused(zipped(tmp_path / "a.pth", b"\x80\x02}.", **{"DATA.PKL": b"\x80\x02]."}))


@pytest.mark.parametrize("kind", ["zip", "legacy"])
def test_a_trainer_s_checkpoint_is_no_bomb(kind: str, tmp_path: Path) -> None:
    """Weights and an optimizer's state, 2000 tensors of next to nothing; of larger files more are allowed."""
    parameters = [nn.Parameter(torch.ones(4, 4, 1, 1)) for _ in range(500)]
    optimizer = torch.optim.AdamW(parameters)
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    state = collections.OrderedDict((f"model.block.{i}.weight", p) for i, p in enumerate(parameters))
    content = {"state_dict": state, "optimizer_states": [optimizer.state_dict()], "epoch": 3}
    torch.save(content, tmp_path / "a.ckpt", _use_new_zipfile_serialization=kind == "zip")
    assert len(open_checkpoint(tmp_path / "a.ckpt")) == 500


@pytest.mark.parametrize(
    "shape", [[0, 1 << 40, 1 << 40], [0, 1 << 63], [1 << 62, 0]], ids=["product", "one", "bytes"]
)
def test_dimensions_of_nothing_that_overflow_are_one_sentence(shape: list[int], tmp_path: Path) -> None:
    raw(tmp_path / "a.safetensors", {"a": entry(0, 0, shape)})
    assert "dimensions that are larger" in refused(tmp_path / "a.safetensors")


def test_an_attribute_of_an_ordered_dict_is_not_called(tmp_path: Path) -> None:
    """A state dict's BUILD may set anything, "get" too."""
    state = collections.OrderedDict(a=torch.ones(2))
    state.get = 1
    torch.save(state, tmp_path / "a.pth")
    assert list(open_checkpoint(tmp_path / "a.pth")) == ["a"]


def test_a_negated_view_is_written_as_what_it_is(tmp_path: Path) -> None:
    torch.save({"a": torch._neg_view(torch.ones(2))}, tmp_path / "a.pth")
    convert(tmp_path / "a.pth")
    assert load_file(tmp_path / "a.safetensors")["a"].tolist() == [-1, -1]


def test_two_tensors_of_one_dotted_name_are_refused(tmp_path: Path) -> None:
    torch.save({"a.b": torch.ones(1), "a": {"b": torch.zeros(1)}}, tmp_path / "a.pth")
    assert "two tensors of the name 'a.b'" in refused(tmp_path / "a.pth")


@pytest.mark.parametrize("name", ["__metadata__", "\ud800x"], ids=["metadata", "half a letter"])
def test_names_that_no_safetensors_file_can_have_are_not_written(name: str, tmp_path: Path) -> None:
    torch.save({name: torch.ones(2), "b": torch.ones(1)}, tmp_path / "m.pth")
    with pytest.raises(CheckpointError, match="m.pth has a"):
        convert(tmp_path / "m.pth")
    assert [path.name for path in tmp_path.iterdir()] == ["m.pth"]


def test_numbers_that_are_not_written_name_their_file(tmp_path: Path) -> None:
    raw(tmp_path / "c.safetensors", {"a": entry(0, 32, [4], "C64")}, bytes(32))
    with pytest.raises(CheckpointError, match=r"c.safetensors holds 'a' as torch.complex64"):
        convert(tmp_path / "c.safetensors", tmp_path / "d.safetensors")
