"""ComfyUI's device, memory, progress and cancel behind plain callables."""

from __future__ import annotations

import gc
import json
import weakref
from types import SimpleNamespace

import pytest
import torch
from torch import nn


@pytest.fixture
def host(comfy):
    from xdyna_unianimate.nodes import host

    return host


@pytest.fixture
def bar(comfy):
    """What the page would see of the progress bars: (done, total, preview)."""
    import comfy.utils

    seen = []
    comfy.utils.set_progress_bar_global_hook(
        lambda done, total, preview, node_id=None, **_: seen.append((done, total, preview))
    )
    yield seen
    comfy.utils.set_progress_bar_global_hook(None)


class Network(nn.Module):
    """Layers that can be cast, one that is too small, one that reads its weight, and lone tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.SiLU(), nn.Conv2d(8, 8, 1)
        )
        self.temporal = nn.Conv3d(8, 8, (3, 1, 1), padding=(1, 0, 0))
        self.line = nn.Conv1d(8, 8, 1)
        self.norm = nn.LayerNorm(8)
        self.tied = Tied(8, 8)
        self.out = nn.Linear(8, 4)
        self.lone = nn.Parameter(torch.full((4,), 0.5))
        self.register_buffer("table", torch.linspace(0, 1, 4))

    @property
    def device(self) -> torch.device:
        """Read-only, as networks have it."""
        return self.lone.device

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.inner(x)
        x = self.temporal(x[:, :, None])[:, :, 0]
        x = self.line(x.flatten(2)).movedim(1, -1)
        return self.out(self.tied(self.norm(x))) * self.lone + self.table


class Tied(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, self.weight, self.bias)


BIG = {"inner.0", "inner.3", "temporal", "line", "out"}
"""The layers of 128 bytes of weights and more that can be cast."""


def network() -> Network:
    torch.manual_seed(3)
    return Network()


@pytest.fixture
def small(host, monkeypatch):
    monkeypatch.setattr(host, "CASTABLE_FROM", 128)


def test_auto_precision_on_a_cpu_is_float32_and_the_widget_overrides(host):
    assert host.dtype("auto") == torch.float32
    assert [host.dtype(name) for name in host.PRECISIONS[1:]] == [
        torch.float16,
        torch.bfloat16,
        torch.float32,
    ]
    with pytest.raises(ValueError, match="'fp4' is unknown; choose one of auto, fp16, bf16, fp32, fp8"):
        host.dtype("fp4")


@pytest.mark.parametrize(
    ("stored", "computed", "expected"),
    [
        (torch.float8_e4m3fn, torch.bfloat16, torch.bfloat16),
        (torch.float16, None, torch.float16),
        (torch.float64, None, torch.float32),
    ],
)
def test_auto_takes_the_dtype_that_computes(host, monkeypatch, stored, computed, expected):
    import comfy.model_management as mm

    monkeypatch.setattr(mm, "unet_dtype", lambda **_: stored)
    monkeypatch.setattr(mm, "unet_manual_cast", lambda *_: computed)
    assert host.dtype("auto", 10) == expected


def test_management_changes_neither_names_nor_numbers(host, small):
    plain, managed = network(), network()
    host.Managed(managed)
    x = torch.randn(2, 3, 6, 5)
    assert list(plain.state_dict()) == list(managed.state_dict())
    torch.testing.assert_close(managed(x), plain(x), rtol=0, atol=0)
    assert not managed.training and not any(p.requires_grad for p in managed.parameters())


def test_only_big_plain_layers_can_stay_behind(host, small):
    managed = network()
    host.Managed(managed)
    assert {name for name, m in managed.named_modules() if hasattr(m, "comfy_cast_weights")} == BIG
    unchanged = nn.Linear(8, 2)
    host.Managed(unchanged)
    assert type(unchanged) is nn.Linear


def test_a_network_partly_behind_computes_the_same(host, small):
    plain, managed = network(), network()
    patcher = host._patcher(managed)
    patcher.partially_load(torch.device("cpu"), extra_memory=1)
    assert {n for n, m in managed.named_modules() if getattr(m, "comfy_cast_weights", False)} == BIG
    x = torch.randn(2, 3, 6, 5)
    torch.testing.assert_close(managed(x), plain(x), rtol=0, atol=0)
    patcher.detach()


def test_what_cannot_be_cast_is_moved_by_us(host, small):
    managed = network()
    host.Managed(managed)
    host._move_what_cannot_be_cast(managed, torch.device("meta"))
    stayed = {name for name, t in managed.state_dict().items() if t.device.type == "cpu"}
    assert stayed == {f"{layer}.{part}" for layer in BIG for part in ("weight", "bias")}


def loaded_patchers() -> list:
    """The real program wraps the patchers of its list."""
    import comfy.model_management as mm

    entries = [getattr(entry, "model", None) for entry in mm.current_loaded_models]
    wrapped = [inner if hasattr(inner, "load_device") else None for inner in entries]
    return [inner or entry for inner, entry in zip(wrapped, mm.current_loaded_models, strict=True)]


def test_a_placed_network_is_loaded_once_and_stays(host):
    import comfy.model_management as mm

    net = network()
    managed = host.Managed(net)
    for _ in range(2):
        with managed.placed(working=2**20)(net) as device:
            assert device == torch.device("cpu")
            assert [p.model.network for p in loaded_patchers()].count(net) == 1
    assert loaded_patchers()[0].loaded_size() > 0, "it stays until somebody needs the room"
    mm.unload_all_models()


def test_the_room_for_activations_is_asked_for(host, monkeypatch):
    import comfy.model_management as mm

    asked = []
    monkeypatch.setattr(
        mm, "load_models_gpu", lambda models, memory_required=0: asked.append(memory_required)
    )
    net = network()
    with host.Managed(net).placed(working=123)(net):
        assert asked == [123]


def test_networks_of_open_blocks_are_asked_for_together(host, monkeypatch):
    """One after the other, the second could make room by putting the first out."""
    import comfy.model_management as mm

    asked = []
    monkeypatch.setattr(
        mm,
        "load_models_gpu",
        lambda models, memory_required=0: asked.append([m.model.network for m in models]),
    )
    one, two = network(), network()
    placed = host.together(host.Managed(one), host.Managed(two), working=5)
    with placed(one):
        with placed(two):
            pass
        with placed(two):
            pass
    with placed(two):
        pass
    assert asked == [[one], [one, two], [one, two], [two]]


def test_what_core_places_by_itself_is_not_loaded_by_us(host, monkeypatch):
    import comfy.model_management as mm

    monkeypatch.setattr(mm, "load_models_gpu", lambda *_, **__: pytest.fail("nothing is to be loaded"))
    with host.together()(host.PlacedByCore()) as device:
        assert device == torch.device("cpu")


def test_cancel_stops_before_the_next_forward_of_a_placed_network(host, interrupt):
    import comfy.model_management as mm

    net, x = network(), torch.randn(1, 3, 4, 4)
    with pytest.raises(interrupt), host.Managed(net).placed()(net):
        net(x)
        mm.interrupt_current_processing(True)
        net(x)
    net(x)
    mm.interrupt_current_processing(True)
    net(x)  # outside its block nobody looks
    mm.interrupt_current_processing(False)


def test_a_network_that_is_dropped_is_freed(host):
    net = network()
    gone = weakref.ref(net)
    managed = host.Managed(net)
    with managed.placed()(net):
        pass
    del net, managed
    import comfy.model_management as mm

    mm.unload_all_models()
    gc.collect()
    assert gone() is None


def test_the_cache_is_given_back_after_a_failure_too(host, monkeypatch):
    import comfy.model_management as mm

    calls, net = [], network()
    placed = host.Managed(net).placed()
    monkeypatch.setattr(mm, "soft_empty_cache", lambda *_: calls.append(1))
    with pytest.raises(RuntimeError, match="out of memory"), placed(net):
        raise RuntimeError("out of memory")
    assert calls == [1]


def test_the_bar_moves_with_every_step(host, bar):
    step = host.progress(3)
    for done in (1, 2, 3):
        step(done, 3, torch.zeros(1, 4, 2, 8, 8), torch.zeros(1, 4, 2, 8, 8))
    shown = [(done, total) for done, total, _ in bar]
    assert shown[0] == (1, 3) and shown[-1] == (3, 3) and shown == sorted(shown)
    assert all(preview is None for _, _, preview in bar), "previews are off unless the user turns them on"


def test_previews_show_frames_of_the_clip_when_the_user_wants_them(host, bar, monkeypatch):
    from comfy.cli_args import LatentPreviewMethod, args

    monkeypatch.setattr(args, "preview_method", LatentPreviewMethod.Latent2RGB)
    x0 = torch.randn(1, 4, 9, 8, 6)
    host.progress(1)(1, 1, x0, x0)
    kind, picture, _ = bar[-1][2]
    assert (kind, picture.size) == ("JPEG", (4 * 6, 8))


def test_a_samplers_bar_moves_with_every_window_of_every_step(host, bar):
    progress, x = host.SamplerProgress(2), torch.zeros(1, 4, 2, 8, 8)
    for step in (1, 2):
        for window in (1, 2, 3):
            progress.on_window(window, 3)
        progress.on_step(step, 2, x, x)
    shown = [(done, total) for done, total, _ in bar]
    assert shown == [(1, 6), (2, 6), (3, 6), (3, 6), (4, 6), (5, 6), (6, 6), (6, 6)]


@pytest.mark.parametrize(("frames", "shown"), [(1, [0]), (2, [0, 1]), (4, [0, 1, 2, 3]), (10, [0, 3, 6, 9])])
def test_a_strip_holds_first_and_last_frame(host, frames, shown):
    latents = torch.arange(frames, dtype=torch.float32).reshape(1, 1, frames, 1, 1)
    assert host.preview_strip(latents).flatten().tolist() == shown


def test_cancel_stops_at_the_next_step_and_only_once(host, bar, interrupt):
    import comfy.model_management as mm

    step = host.progress(5)
    step(1)
    mm.interrupt_current_processing(True)
    with pytest.raises(interrupt):
        step(2)
    step(5)
    assert [done for done, _, _ in bar] == [1, 5]


def test_a_drawn_preview_goes_with_the_bar(host, bar):
    from PIL import Image

    picture = Image.new("RGB", (4, 4))
    host.show(2)(1, picture)
    assert bar[-1][:2] == (1, 2) and bar[-1][2][1] is picture


def test_the_workflow_travels_as_json_unless_the_user_forbids(host, monkeypatch):
    from comfy.cli_args import args

    hidden = SimpleNamespace(prompt={"1": {}}, extra_pnginfo={"workflow": {"nodes": []}})
    stored = host.workflow_metadata(hidden)
    assert {key: json.loads(value) for key, value in stored.items()} == {
        "prompt": {"1": {}},
        "workflow": {"nodes": []},
    }
    assert host.workflow_metadata(SimpleNamespace(prompt=None, extra_pnginfo=None)) == {}
    monkeypatch.setattr(args, "disable_metadata", True)
    assert host.workflow_metadata(hidden) == {}
