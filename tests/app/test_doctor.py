"""Doctor: what it finds, with hash and licence, and that every command it gives is one that works."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from xdyna_unianimate.app import doctor, hashes, models
from xdyna_unianimate.app.cli import build_parser, main
from xdyna_unianimate.app.networks import default_folders
from xdyna_unianimate.pose_align.detector import Backend

CONTENT = b"published weights"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


@pytest.fixture
def published(monkeypatch) -> models.ModelFile:
    """The first file of the pose detector, as if these few bytes were what was published."""
    row = models.described("yolox_l.onnx")
    small = replace(row, size=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setattr(models, "FILES", tuple(small if file == row else file for file in models.FILES))
    return small


def row_of(found: doctor.Findings, name: str) -> dict:
    return next(file for file in found["files"] if file["name"] == name)


def put(row: models.ModelFile, home: Path, content: bytes = CONTENT) -> Path:
    file = row.home(home)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def test_a_file_is_found_with_hash_licence_and_verdict(home, published):
    file = put(published, home)
    found = doctor.examine([home])
    row = row_of(found, published.name)
    assert (row["found"], row["sha256"], row["as_published"]) == (str(file), published.sha256, True)
    text = "\n".join(doctor.lines(found))
    assert f"licence: {published.licence}" in text and f"sha256: {published.sha256}, as published" in text


def test_what_is_not_the_published_file_gets_the_command_that_fetches_it_again(home, published):
    file = put(published, home, CONTENT[::-1])
    found = doctor.examine([home])
    assert row_of(found, published.name)["as_published"] is False
    assert "NOT as published" in "\n".join(doctor.lines(found))
    (advice,) = [line for line in found["advice"] if str(file) in line]
    assert (
        "not the published file" in advice
        and f"download {published.name}" in advice
        and "--overwrite" in advice
    )


def test_big_files_are_hashed_when_asked_and_remembered(home, published, monkeypatch):
    put(published, home)
    monkeypatch.setattr(doctor, "SMALL", 3)
    assert "sha256" not in row_of(doctor.examine([home]), published.name)
    assert "not computed yet (--hashes)" in "\n".join(doctor.lines(doctor.examine([home])))
    assert row_of(doctor.examine([home], hashes=True), published.name)["sha256"] == published.sha256
    monkeypatch.setattr(hashes, "content_of", lambda _: pytest.fail("it was read again"))
    assert row_of(doctor.examine([home]), published.name)["sha256"] == published.sha256


def test_what_a_download_has_verified_needs_no_second_reading(home, published, monkeypatch):
    file = put(published, home)
    hashes.HashBook.at(doctor.place()).put(file, published.sha256)
    monkeypatch.setattr(hashes, "content_of", lambda _: pytest.fail("it was read again"))
    assert row_of(doctor.examine([home], hashes=True), published.name)["as_published"] is True


def test_versions_and_what_the_host_says_of_itself(home, tmp_path):
    found = doctor.examine([home], host={"ComfyUI": "0.3.64"}, host_folder=tmp_path / "user")
    version = re.search(
        r'^version = "(.+)"', (doctor.ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.M
    )[1]
    assert found["system"]["pack"] == version and found["system"]["ComfyUI"] == "0.3.64"
    assert any(one["package"] == "torch" and one["version"] for one in found["libraries"])
    assert any(line.startswith(("cuda", "cpu")) for line in found["devices"])


def test_the_backend_that_is_used_is_the_first_that_works(monkeypatch):
    states = [Backend("a", False, "lacks files."), *(Backend(name, True, "") for name in "bcd")]
    monkeypatch.setattr("xdyna_unianimate.pose_align.detector.available_backends", lambda _: states)
    opened = {"b": (False, "broken"), "c": (True, "runs on CUDA."), "d": (True, "runs on CPU.")}
    monkeypatch.setattr(doctor, "_opened", lambda name, *_: opened[name])
    backends = doctor._backends([])
    assert [one["used"] for one in backends] == [False, False, True, False]
    assert [one["usable"] for one in backends] == [False, False, True, True]


def test_a_neighbour_s_pose_files_are_used_by_the_command_line_too(tmp_path, monkeypatch):
    """Found for doctor, and by the detector of every command."""
    place = tmp_path / "custom_nodes" / "comfyui_controlnet_aux" / "ckpts" / "yzd-v" / "DWPose"
    place.mkdir(parents=True)
    (tmp_path / "models").mkdir()
    for name in ("yolox_l.onnx", "dw-ll_ucoco_384.onnx"):
        (place / name).write_bytes(b"no network")
    found = doctor.examine([tmp_path / "models"])
    dwpose = next(one for one in found["pose_backends"] if one["name"] == "dwpose")
    assert not dwpose["usable"] and str(place) in dwpose["detail"], "opened, and found to be no network"
    args = build_parser().parse_args(["pose", "clip.mp4", "--models", str(tmp_path / "models")])
    from xdyna_unianimate.app.arguments import detector_of

    assert str(place / "yolox_l.onnx") in detector_of(args).identity


def commands(found: doctor.Findings) -> list[list[str]]:
    """The command lines of the advice, in words."""
    lines = [re.sub(r" \(research only.*", "", line) for line in found["advice"] if '"' in line]
    starts = (line[line.index('"') :] for line in lines)
    return [shlex.split(command) for line in starts for command in line.split(" && ")]


def test_every_command_of_the_advice_is_one_that_works(home, published, monkeypatch):
    broken = put(published, home, b"half")
    monkeypatch.setattr("xdyna_unianimate.pose_align.detector.available_backends", lambda _: [])
    monkeypatch.setitem(doctor.LIBRARIES, "no_such_library", doctor.Library(("no-such-package",), "much"))
    real = importlib.util.find_spec
    missing = {"modelscope", "no_such_library"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else real(name))
    found = doctor.examine([home])
    said = commands(found)
    assert ["-m", "pip", "install", "no-such-package"] in [words[1:] for words in said]
    assert ["-m", "pip", "install", "modelscope"] in [words[1:] for words in said]
    asked = []
    for words in said:
        assert Path(words[0]).is_file()
        if words[1] == "-m":
            assert all(Path(word).is_file() for word in words if word.endswith(".txt"))
            continue
        assert (Path(words[1]) / "__main__.py").is_file()
        asked += build_parser().parse_args(words[2:]).what
        assert main([*words[2:], "--dry-run"]) == 0, "in the order of the advice: the broken file first"
        broken.unlink(missing_ok=True)
    assert set(asked) == {"dwpose", "unianimate", "xdyna", published.name}


def test_where_there_is_no_models_folder_the_advice_begins_with_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("xdyna_unianimate.pose_align.detector.available_backends", lambda _: [])
    found = doctor.examine(default_folders())
    said = "\n".join(found["advice"])
    assert said.index("mkdir models") < said.index(" download ")
    fetching = [words[2:] for words in commands(found) if words[1] != "-m"]
    assert len(fetching) == 3 and {main([*words, "--dry-run"]) for words in fetching} == {1}, (
        "nowhere to put them"
    )
    Path("models").mkdir()
    assert {main([*words, "--dry-run"]) for words in fetching} == {0}


def test_research_only_files_are_never_advised_without_their_terms(home):
    advice = [line for line in doctor.examine([home])["advice"] if " download " in line]
    assert advice and all(("--accept-licence" in line) == ("read the terms" in line) for line in advice)
    assert any("download unianimate" in line and "--accept-licence" in line for line in advice)


def test_free_memory_of_every_gpu_is_told(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: ((index + 1) * 2**30, 24 * 2**30))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"card {index}")
    assert doctor._devices()[:2] == [
        "cuda:0 card 0, 1.0 of 24.0 GB free",
        "cuda:1 card 1, 2.0 of 24.0 GB free",
    ]
