"""Nothing but an asked-for download touches the network, and no folder's letters matter."""

from __future__ import annotations

import ast
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from xdyna_unianimate.app.cli import main
from xdyna_unianimate.demo import checkpoints, inputs
from xdyna_unianimate.video_core.images import read_picture
from xdyna_unianimate.video_core.video import open_video

ROOT = Path(__file__).resolve().parents[2]
CODE = ("app", "demo", "nodes", "pose_align", "unianimate_core", "video_core", "xdyna_core")
NETWORK = {
    "socket", "ssl", "http", "urllib.request", "ftplib", "smtplib", "requests", "httpx", "aiohttp", "urllib3",
    "huggingface_hub", "modelscope", "webbrowser", "xmlrpc", "gdown",
}  # fmt: skip

BLOCKED = """
import importlib, pkgutil, socket, sys

def refuse(*_, **__):
    raise SystemExit("the network was touched")

for name in ("connect", "connect_ex", "sendto", "bind"):
    setattr(socket.socket, name, refuse)
for name in ("getaddrinfo", "gethostbyname", "create_connection"):
    setattr(socket, name, refuse)
import xdyna_unianimate
for module in pkgutil.walk_packages(xdyna_unianimate.__path__, "xdyna_unianimate."):
    if module.name.split(".")[1] in {code!r} and not module.name.endswith("__main__"):
        importlib.import_module(module.name)
from xdyna_unianimate.app.cli import main
raise SystemExit(main(["doctor", "--json"]))
"""


@pytest.fixture
def no_network(monkeypatch):
    """Every way out of the process fails the test."""
    for name in ("connect", "connect_ex", "sendto", "bind"):
        monkeypatch.setattr(socket.socket, name, lambda *_, **__: pytest.fail("the network was touched"))
    for name in ("getaddrinfo", "gethostbyname", "create_connection"):
        monkeypatch.setattr(socket, name, lambda *_, **__: pytest.fail("the network was touched"))


def test_importing_everything_and_doctor_use_no_network(tmp_path):
    code = tuple(name for name in CODE if name != "nodes")
    environment = {**os.environ, "XDUA_CACHE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED.format(code=code)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["systems"]


def test_the_demo_uses_no_network(no_network):
    quick = ("--steps", "1", "--max-frames", "2", "--model", "both")
    assert main(["demo", *quick, "-o", "demo.mp4"]) == 0
    with pytest.raises(pytest.fail.Exception, match="touched"):
        socket.create_connection(("example.org", 80))


def test_one_module_knows_how_to_reach_the_network():
    found = set()
    for file in (file for folder in CODE for file in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
            if any(name in NETWORK or name.split(".")[0] in NETWORK for name in names):
                found.add(file.relative_to(ROOT).as_posix())
    assert found == {"app/download.py"}


def test_models_inputs_cache_and_results_in_folders_of_any_letters(own_place, monkeypatch, capsys):
    home = own_place / "模型 été ☂"
    for name in ("вход", "模型", "кэш"):
        (home / name).mkdir(parents=True)
    monkeypatch.setenv("XDUA_CACHE", str(home / "кэш"))
    picture, clip = home / "вход" / "人物 é.png", home / "вход" / "舞蹈 ñ.mp4"
    shutil.copy(inputs.REFERENCE, picture)
    shutil.copy(inputs.DRIVING, clip)
    weights = {"--unet": "UNIANIMATE", "--vae": "VAE", "--clip": "CLIP"}
    given = []
    for option, part in weights.items():
        file = home / "模型" / f"{part} ü.safetensors"
        shutil.copy(getattr(checkpoints, part), file)
        given += [option, str(file)]
    words = [
        "animate", "--reference", str(picture), "--driving", str(clip), "--detector", "demo", "--steps", "1",
        "--resolution", "32x48", "--max-frames", "2", "-o", str(home / "результат"), "--json", *given,
    ]  # fmt: skip
    assert main(words) == 0, capsys.readouterr().err
    made = json.loads(capsys.readouterr().out)
    assert Path(made["video"]).parent == home / "результат" and "人物" in made["video"]
    assert len(list(open_video(made["video"]).frames())) == 2
    assert read_picture(made["sheet"]).ndim == 3
    assert any((home / "кэш").rglob("*.npz")), "poses were cached there"

    poses = home / "результат" / "姿态.json"
    assert main(["pose", str(clip), "-o", str(poses), "--detector", "demo", "--max-frames", "2"]) == 0
    assert main(["align", str(poses), str(picture), "--detector", "demo", "-o", f"{poses}.npz"]) == 0
    assert main(["doctor", "--models", str(home / "模型")]) == 0
    assert "模型 été ☂" in capsys.readouterr().out
