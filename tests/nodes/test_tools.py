"""Doctor and the download node: what they say, and that the second keeps still until it is switched on."""

from __future__ import annotations

import hashlib
import json
import sys
from types import SimpleNamespace

import pytest
from xdyna_unianimate.app import download, models

from ..fakes.hub import serving


def one(node: str, **inputs) -> dict:
    return {"1": {"class_type": node, "inputs": inputs}}


@pytest.fixture
def hub():
    with serving() as offering:
        yield offering


@pytest.fixture
def page(monkeypatch) -> list[tuple[str, str]]:
    """The texts that nodes write on the page."""
    said: list[tuple[str, str]] = []
    instance = SimpleNamespace(send_progress_text=lambda text, node_id: said.append((node_id, text)))
    monkeypatch.setitem(
        sys.modules, "server", SimpleNamespace(PromptServer=SimpleNamespace(instance=instance))
    )
    return said


@pytest.fixture
def published(monkeypatch) -> bytes:
    """A pose detector of a few bytes, and a hub that offers it."""
    content = b"a small network" * 100
    row = models.ModelFile(
        "small.onnx", "a test", "dwpose", models.RESEARCH_ONLY, models.DWPOSE_PAGE, len(content),
        hashlib.sha256(content).hexdigest(), group="dwpose",
    )  # fmt: skip
    monkeypatch.setattr(models, "FILES", (row,))
    return content


def test_doctor_says_what_there_is_on_the_node_and_as_text(comfy, page):
    run = comfy.executor().run(one("XDUA_Doctor", hashes=False))
    text, found = run.outputs["1"][0], json.loads(run.outputs["1"][1])
    assert run.ui["1"] == {"text": (text,)}
    assert page == [("1", "\n".join([*found["advice"], "", text]))]
    for part in ("ComfyUI", "runs on", "free memory", "torch", "Pose backends", "licence: ", "What to do"):
        assert part in text
    assert found["nodes_left_out"] == {}
    assert found["folders"][0] == str(comfy.base / "models")
    assert {file["name"] for file in found["files"]} == {file.name for file in models.FILES}
    assert all(backend["detail"] for backend in found["pose_backends"])


def test_doctor_looks_again_every_time(comfy):
    executor = comfy.executor()
    executor.run(one("XDUA_Doctor", hashes=False))
    place = comfy.base / "models" / "dwpose" / "dw-ll_ucoco.onnx"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(b"network")
    try:
        found = json.loads(executor.run(one("XDUA_Doctor", hashes=True)).outputs["1"][1])
    finally:
        place.unlink()
    row = next(file for file in found["files"] if file["name"] == place.name)
    assert row["found"] == str(place)
    assert row["sha256"] == hashlib.sha256(b"network").hexdigest()


def test_doctor_says_which_nodes_a_missing_library_costs(comfy, monkeypatch):
    from xdyna_unianimate import nodes

    monkeypatch.setattr(nodes, "load", lambda: ([], {"video": "No module named 'av'"}))
    text, found = comfy.executor().run(one("XDUA_Doctor", hashes=False)).outputs["1"]
    assert "Nodes left out: video: No module named 'av'" in text
    assert json.loads(found)["nodes_left_out"] == {"video": "No module named 'av'"}


def test_doctor_works_where_there_is_no_page(comfy):
    assert comfy.executor().run(one("XDUA_Doctor", hashes=False)).outputs["1"][0]


def test_download_is_off_by_default_and_then_only_says_what_it_would_do(comfy, page, monkeypatch):
    monkeypatch.setattr(download, "download", lambda *_, **__: pytest.fail("it was switched off"))
    schema = comfy.pack["XDUA_DownloadModels"].GET_SCHEMA()
    defaults = {part.id: part.as_dict()["default"] for part in schema.inputs}
    assert (defaults["download"], defaults["accept_licence"]) == (False, False)
    text = (
        comfy.executor()
        .run(one("XDUA_DownloadModels", **{**defaults, "files": "unianimate"}))
        .outputs["1"][0]
    )
    rows = [file for file in models.FILES if file.group == "unianimate"]
    assert rows and all(file.name in text and file.licence in text for file in rows)
    assert str(comfy.base / "models" / "unianimate") in text and "Nothing was fetched" in text
    assert page == [("1", text)]


def test_terms_of_research_only_files_are_asked_for(comfy, monkeypatch):
    monkeypatch.setattr(download, "download", lambda *_, **__: pytest.fail("nobody accepted the terms"))
    with pytest.raises(Exception, match="terms that are yours to accept.*accept_licence"):
        comfy.executor().run(one("XDUA_DownloadModels", files="xdyna", download=True, accept_licence=False))


def test_switched_on_it_fetches_into_the_models_folder(comfy, published, monkeypatch, hub):
    url = hub.offer("small.onnx", published)
    monkeypatch.setitem(
        download.HUBS, "huggingface.co", download.Hub("huggingface_hub", lambda *_: download.Remote(url))
    )
    target = comfy.base / "models" / "dwpose" / "small.onnx"
    graph = one("XDUA_DownloadModels", files="dwpose", download=True, accept_licence=True)
    try:
        assert str(target) in comfy.executor().run(graph).outputs["1"][0]
        assert target.read_bytes() == published
        assert "there already" in comfy.executor().run(graph).outputs["1"][0] and len(hub.asked) == 1
    finally:
        target.unlink(missing_ok=True)
