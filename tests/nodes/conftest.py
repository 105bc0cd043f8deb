"""One ComfyUI for all tests of this folder: the stand-ins, or the real program when COMFYUI_PATH names it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..fakes import comfy_host


@pytest.fixture(scope="session")
def comfy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[comfy_host.Comfy]:
    with comfy_host.running(tmp_path_factory.mktemp("comfy 模型 été")) as host:
        yield host
