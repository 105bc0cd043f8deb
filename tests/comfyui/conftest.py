"""One real server for the tests of this folder; COMFYUI_PATH names it and COMFY_PYTHON its Python."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ..fakes import comfy_host, server

PACK = Path(__file__).resolve().parents[2]


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
def comfyui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[server.Server]:
    with server.serving(comfy_host.real_path(), PACK, tmp_path_factory.mktemp("server 模型 été")) as running:
        yield running
