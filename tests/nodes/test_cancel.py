"""Cancel, in both kinds that cores know: heard before the next forward and frame, and nothing is left behind.

ComfyUI's interrupt is an Exception in 0.3.64 and a BaseException in newer versions: every long node is stopped
by either. The button is pressed in the middle of a node's work; what a network or the bar does afterwards is
counted, and must be nothing.
"""

from __future__ import annotations

import copy
import gc
import json
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from ..fakes import workflow
from ..fakes.executor import Executor, NodeError, downstream, set_widgets

WORKFLOWS = Path(__file__).parents[2] / "workflows"
FRAMES, SIZE = 5, {"width": 64, "height": 128}
KINDS = {"as in 0.3.64": Exception, "as in newer versions": BaseException}
SPAN = {"strength": 1.0, "start_percent": 0.0, "end_percent": 1.0, "stretch": "none"}
EVALUATED = {
    "conditions": "", "stop_if_missed": False, "filename_prefix": "", "window_size": 0, "window_overlap": 8,
}  # fmt: skip

LONG = {
    "EvaluateResult": "evaluated", "VAEEncode": "encoded", "EncodeVideo": "26", "GridCompare": "25", "VAEDecode": "24",
    "XDynaSampler": "21",
    "FaceMaps": "faces", "DrawPose": "22", "XDynaConditioning": "19", "UniAnimateSampler": "14",
    "UniAnimateConditioning": "12", "ExtractPose": "3",
}  # fmt: skip
"""Every node that works for more than a moment, and where it stands in the prompt: from its end to its start, so
that what one test stopped is not needed by the next."""

CHUNKS = {"VAEEncode": 4, "VAEDecode": 2}
"""Frames at a time."""
WINDOWS = {"XDynaSampler": 1, "UniAnimateSampler": 1}
"""In each of the two steps."""

SAMPLERS = {
    "in windows": {"13": {"flow": "long"}, "14": {"mode": "windows", "window": 3, "overlap": 1}},
    "in segments": {"14": {"mode": "continuation", "window": 3}},
    "both branches at once": {"14": {"together": True, "steps": 3}},
    "X-Dyna, branch by branch": {"21": {"together": False, "window": 2, "overlap": 0}},
}
"""Other ways through the samplers: what changes in the prompt."""


@contextmanager
def interrupt_as(base: type[BaseException]) -> Iterator[type[BaseException]]:
    """The class of the interrupt, derived as a core has it."""
    import comfy.model_management as mm

    usual = mm.InterruptProcessingException
    mm.InterruptProcessingException = type("InterruptProcessingException", (base,), {})
    try:
        yield mm.InterruptProcessingException
    finally:
        mm.InterruptProcessingException = usual
        mm.interrupt_current_processing(False)


def small(name: str, classes) -> dict:
    """A shipped workflow's prompt on a few small frames."""
    shipped = json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8"))
    graph = workflow.to_prompt(shipped, classes)
    return set_widgets(graph, frames=FRAMES, steps=2, **SIZE)


def prompt(classes) -> dict:
    """Both systems, with the face, and judged in the end."""
    graph = small("compare_systems", classes)
    graph["face_net"] = node_of(
        "LoadXDynaControlNet", kind="face", controlnet="demo (embedded)", precision="auto"
    )
    graph["faces"] = node_of("FaceMaps", frames=["1", 1], poses=["1", 3], fidelity="robust", **SIZE)
    graph["faced"] = node_of(
        "ApplyFaceControl",
        conditions=["20", 0], controlnet=["face_net", 0], local=["faces", 0], whole=["faces", 1], **SPAN,
    )  # fmt: skip
    graph["21"]["inputs"]["conditions"] = ["faced", 0]
    graph["evaluated"] = node_of(
        "EvaluateResult", images=["23", 0], truth=["23", 0], detector=["2", 0], **EVALUATED
    )
    graph["encoded"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["1", 1], "vae": ["11", 0]}}
    graph["seen"] = {"class_type": "VAEDecode", "inputs": {"samples": ["encoded", 0], "vae": ["11", 0]}}
    graph["shown"] = {"class_type": "PreviewImage", "inputs": {"images": ["seen", 0]}}
    return graph


def node_of(name: str, **inputs) -> dict:
    return {"class_type": f"XDUA_{name}", "inputs": inputs}


class Watched(Executor):
    """An executor that knows what every node's networks and bars do, and can press the button meanwhile.

    moments: (node, what) for every part of a network that has run and every move of a bar.
    press_at: (node, how many of its moments) at which the button is pressed.
    bars: node -> every (done, total) of its bar.
    """

    def __init__(self, classes) -> None:
        super().__init__(classes)
        self.moments: list[tuple[str, str]] = []
        self.press_at: tuple[str, int] | None = None
        self.bars: dict[str, list[tuple[int, int]]] = {}
        self._running = ""
        self._signatures: dict[str, str] = {}

    def _execute(self, prompt, node_id, run, extra_pnginfo):
        self._running = node_id
        return super()._execute(prompt, node_id, run, extra_pnginfo)

    def _signature(self, prompt, node_id, known):
        self._signatures[node_id] = super()._signature(prompt, node_id, known)
        return self._signatures[node_id]

    def happened(self, what: str) -> None:
        import comfy.model_management as mm

        self.moments.append((self._running, what))
        if self.press_at == (self._running, self.count(self._running)):
            mm.interrupt_current_processing(True)

    def moved(self, done: int, total: int) -> None:
        self.bars.setdefault(self._running, []).append((done, total))
        self.happened("moved")

    def count(self, node_id: str) -> int:
        return sum(where == node_id for where, _ in self.moments)

    def forget(self, node_ids: set[str]) -> None:
        """The results of these nodes, so that they run again."""
        gone = {self._signatures.get(node_id) for node_id in node_ids}
        self._kept = {key: kept for key, kept in self._kept.items() if key not in gone}


@contextmanager
def watching(executor: Watched) -> Iterator[list[weakref.ref]]:
    """The executor is told what happens; gives weak references to all networks that loaders make."""
    import comfy.utils
    from xdyna_unianimate.nodes import host

    networks: list[weakref.ref] = []
    parts: set[weakref.ref] = set()
    init = host.Managed.__init__

    def noted(managed, *given):
        init(managed, *given)
        networks.extend(weakref.ref(network) for network in given)
        parts.update(weakref.ref(part) for network in given for part in (network, *network.children()))

    def ran(module, *_):
        if weakref.ref(module) in parts:
            executor.happened("ran")

    host.Managed.__init__ = noted
    counter = torch.nn.modules.module.register_module_forward_hook(ran)
    comfy.utils.set_progress_bar_global_hook(lambda done, total, *_, **__: executor.moved(done, total))
    try:
        yield networks
    finally:
        comfy.utils.set_progress_bar_global_hook(None)
        counter.remove()
        host.Managed.__init__ = init


@pytest.fixture(scope="module")
def watched(comfy) -> Iterator[tuple[Watched, dict, list[weakref.ref]]]:
    """One executor for all tests, so that loaders run once; the prompt; the networks."""
    executor = Watched(comfy.classes)
    with watching(executor) as networks:
        yield executor, prompt(comfy.classes), networks


@pytest.fixture(scope="module")
def whole(watched) -> tuple[dict[str, int], torch.Tensor]:
    """Of a run that nobody stops: how many moments every node has, and the frames in the end."""
    executor, graph, _ = watched
    run = executor.run(graph)
    return {node_id: executor.count(node_id) for node_id in graph}, run.outputs["25"][0]


@pytest.fixture
def files(comfy, monkeypatch, tmp_path):
    """Gives what is new among ComfyUI's files, the poses that are kept, and temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("XDUA_CACHE", str(tmp_path / "cache"))

    def there() -> set[Path]:
        return {path for folder in (comfy.base, tmp_path) for path in folder.rglob("*") if path.is_file()}

    before = there()
    return lambda: there() - before


def stop(executor: Watched, graph: dict, node_id: str, moment: int, interrupt: type[BaseException]) -> None:
    """Runs up to the moment; what the node's networks and bar do afterwards is nothing."""
    import comfy.model_management as mm

    executor.forget(downstream(graph, node_id))
    executor.moments.clear()
    executor.press_at = (node_id, moment)
    with pytest.raises(NodeError) as caught:
        executor.run(graph)
    executor.press_at = None
    assert caught.value.node_id == node_id and type(caught.value.__cause__) is interrupt
    assert executor.count(node_id) == moment, executor.moments
    assert not mm.processing_interrupted(), "whoever presses the button once is heard once"


@pytest.mark.parametrize("name", [name for name in LONG if name != "XDynaConditioning"])
def test_the_bar_of_a_long_node_moves_to_its_end(watched, whole, name):
    """With every frame, chunk of frames, or window of every step; one picture alone has no bar."""
    told = watched[0].bars[LONG[name]]
    shown = [done for done, _ in told]
    assert shown == sorted(shown) and told[-1][0] == told[-1][1]
    if "VAE" in name:
        assert len(set(shown)) == -(-FRAMES // CHUNKS[name])
    else:
        assert len(set(shown)) == (2 * WINDOWS[name] if name in WINDOWS else FRAMES)


@pytest.mark.parametrize("name", LONG)
def test_a_long_node_stops_at_once_and_leaves_nothing(watched, whole, files, name):
    executor, graph, networks = watched
    node_id, moments = LONG[name], whole[0][LONG[name]]
    assert moments > 1, "nobody would see it working"
    for base in KINDS.values():
        for moment in {1, moments // 2}:
            with interrupt_as(base) as interrupt:
                stop(executor, graph, node_id, moment, interrupt)
    kept = {path.name.split(".", 1)[1] for path in files()}
    assert kept == ({"partial.mp4"} if name == "EncodeVideo" else set()), "of a clip the frames so far"
    for network in (ref() for ref in networks):
        assert not any(part._forward_pre_hooks for part in (network, *network.children()))


def test_the_next_run_gives_what_it_would_have_given(watched, whole):
    """After all of these."""
    executor, graph, _ = watched
    run = executor.run(graph)
    assert LONG["ExtractPose"] in run.executed and torch.equal(run.outputs["25"][0], whole[1])


@pytest.mark.parametrize("way", SAMPLERS)
def test_every_way_through_a_sampler_stops_within_a_forward(watched, whole, way):
    executor, graph, _ = watched
    graph, node_id = copy.deepcopy(graph), "21" if "X-Dyna" in way else "14"
    for changed, values in SAMPLERS[way].items():
        graph[changed]["inputs"] |= values
    for base, moment in zip(KINDS.values(), (3, 5), strict=True):
        with interrupt_as(base) as interrupt:
            stop(executor, graph, node_id, moment, interrupt)


@pytest.mark.parametrize("base", KINDS.values(), ids=KINDS)
def test_a_stopped_run_holds_no_network(comfy, base):
    """What ran is freed once nobody has it: no traceback, hook or placed block holds on to it."""
    import comfy.model_management as mm

    if comfy.real:
        pytest.skip("the program itself keeps what it has loaded")
    executor = Watched(comfy.classes)
    with watching(executor) as networks, interrupt_as(base):
        executor.press_at = ("16", 3)
        with pytest.raises(NodeError):
            executor.run(small("xdyna_pose", comfy.classes))
    assert networks and all(ref() is not None for ref in networks)
    del executor
    mm.unload_all_models()
    gc.collect()
    assert not [type(ref()).__name__ for ref in networks if ref() is not None]
