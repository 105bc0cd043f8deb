"""One ComfyUI for all tests of this folder: the stand-ins, or the real program when COMFYUI_PATH names it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..fakes import comfy_host


@pytest.fixture(scope="session")
def comfy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[comfy_host.Comfy]:
    with comfy_host.running(tmp_path_factory.mktemp("comfy 模型 été")) as host:
        yield host


@pytest.fixture(params=[Exception, BaseException], ids=lambda kind: kind.__name__)
def interrupt(comfy: comfy_host.Comfy, request, monkeypatch) -> Iterator[type[BaseException]]:
    """What a cancelled run raises: an Exception in older versions of ComfyUI, a BaseException in newer ones."""
    import comfy.model_management as mm

    raised = type("InterruptProcessingException", (request.param,), {})
    monkeypatch.setattr(mm, "InterruptProcessingException", raised)
    yield raised
    mm.interrupt_current_processing(False)
