"""One real server for the tests of this folder; COMFYUI_PATH names it and COMFY_PYTHON its Python."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..fakes import comfy_host, listener, server
from ..fakes.executor import set_widgets
from ..fakes.workflow import to_prompt

PACK = Path(__file__).resolve().parents[2]
STEPS = 2
"""Of the samplers in shipped workflows, here."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    reason = "COMFYUI_PATH names no ComfyUI (its folder; COMFY_PYTHON names the Python that runs it)"
    for item in items:
        if here not in item.path.parents:
            continue
        item.add_marker(pytest.mark.comfyui)
        if comfy_host.real_path() is None:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Callable:
    """Starts a server of one's own: ``with start(option, ...) as running``."""
    return lambda *options, **more: server.serving(
        comfy_host.real_path(), PACK, tmp_path_factory.mktemp("server 模型 été"), *options, **more
    )


@pytest.fixture(scope="session")
def comfyui(start: Callable) -> Iterator[server.Server]:
    """With live previews switched on, as a user does in the settings."""
    with start("--preview-method", "latent2rgb") as running:
        yield running


@pytest.fixture
def page(comfyui: server.Server, clients: Iterator[str]) -> Iterator[listener.Listener]:
    """What the page hears."""
    with listener.listening(comfyui.url, next(clients)) as heard:
        yield heard


@pytest.fixture(scope="session")
def clients() -> Iterator[str]:
    return (f"page-{number}" for number in itertools.count(1))


@pytest.fixture(scope="session")
def shipped(comfyui: server.Server) -> Callable[[str], dict]:
    """The prompt of a shipped workflow by its name, with two steps."""
    info = server.described(comfyui.get("/object_info"))

    def prompt(name: str) -> dict:
        file = PACK / "workflows" / f"{name}.json"
        return set_widgets(to_prompt(json.loads(file.read_text(encoding="utf-8")), info), steps=STEPS)

    return prompt
