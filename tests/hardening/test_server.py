"""The real program as a server: every widget asked for what it cannot be, a queue of twenty, two servers at once."""

from __future__ import annotations

import json
import math
import re
import resource
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from xdyna_unianimate.demo import checkpoints
from xdyna_unianimate.video_core.placement import MEMORY_SIGNS

from ..fakes import comfy_host, server
from ..fakes.executor import is_link, set_widgets
from ..fakes.workflow import to_prompt
from . import processes
from .tally import Tally
from .test_load import prompt as drawing
from .test_requests import (
    MORE_MEMORY,
    NAMES,
    READ_ANYWHERE,
    WORKFLOWS,
    behind_links,
    extremes,
    is_name,
    needed,
    of_this_python,
    widgets,
)

FAMILY = "server"

pytestmark = [
    pytest.mark.comfyui,
    pytest.mark.full,
    pytest.mark.skipif(
        comfy_host.real_path() is None,
        reason="COMFYUI_PATH names no ComfyUI (its folder; COMFY_PYTHON names the Python that runs it)",
    ),
]

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 3.0
"""Seconds until a request that is allowed and large is cancelled, as its user would."""
SENTENCES = {"ValueError", "PoseError", "CheckpointError", "VideoError", "NonFiniteError", "OSError", "ImportError",
             "FileNotFoundError", "PermissionError", "UsageError"}  # fmt: skip
"""Types whose text a user is shown."""
WRONG: tuple[Any, ...] = (
    None,
    "x",
    "9" * 400,
    -1,
    2**63,
    1e308,
    math.nan,
    [],
    [1, 2, 3],
    {"a": {}},
    "\0",
    "\n",
)
AT_ONCE = 3
"""Of the hostile names for each widget, those of the others in turn; all of them are traced, see below."""
PROMPTS = 20


@pytest.fixture
def running(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[server.Server]:
    # glibc sets 64 MB of addresses aside for every thread there ever was, up to 8 for each core: of those that are
    # limited here, more than a request's.
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    with server.serving(comfy_host.real_path(), ROOT, tmp_path_factory.mktemp("server")) as one:
        # What one request takes must not be what this machine has.
        used = int(Path(f"/proc/{one.process.pid}/statm").read_text().split()[0]) * resource.getpagesize()
        limit = used + MORE_MEMORY
        resource.prlimit(one.process.pid, resource.RLIMIT_AS, (limit, limit))
        yield one


def asked(one: server.Server, prompt: dict) -> tuple[str, dict]:
    """The id of a prompt that was taken, or "" and the server's reasons."""
    request = urllib.request.Request(one.url + "/prompt", json.dumps({"prompt": prompt}).encode())
    request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            answer = json.loads(reply.read())
    except urllib.error.HTTPError as error:
        if error.code != 400:
            raise
        return "", json.loads(error.read())
    return answer["prompt_id"], answer.get("node_errors", {})


def ended(one: server.Server, number: str) -> dict:
    """The history entry of a prompt, which is cancelled after a while."""
    begun = time.monotonic()
    while time.monotonic() < begun + 120:
        entry = one.get(f"/history/{number}").get(number)
        if entry and entry.get("status", {}).get("status_str"):
            return entry
        if time.monotonic() > begun + PATIENCE:
            one.post("/interrupt", {})
        time.sleep(0.05)
    raise AssertionError(f"it cannot be cancelled: {one.log()}")


def ask(tally: Tally, one: server.Server, case: str, prompt: dict) -> None:
    """One request: refused with reasons, or with a sentence, or cancelled; or it works."""
    number, reasons = asked(one, prompt)
    if not number:
        known = reasons.get("node_errors") or reasons.get("error")
        tally._count("refused", 1) if known else tally.lost(f"{case}: {reasons}")
        return
    messages = dict(ended(one, number)["status"]["messages"])
    failed = messages.get("execution_error")
    if failed is None:
        tally.worked()
        return
    kind, text = failed["exception_type"].rpartition(".")[2], failed["exception_message"].strip()
    signs = (*MEMORY_SIGNS, "allocate")
    if kind in ("MemoryError", "_ArrayMemoryError", "OutOfMemoryError") or any(
        sign in text for sign in signs
    ):
        # ComfyUI has a message for this, and unloads.
        tally._count("refused", 1)
    elif kind in SENTENCES or "outside the output folder" in text:
        tally.refused(text)
    else:
        tally.lost(f"{case}: {kind}: {text[:300]}")


def small(prompt: dict) -> dict:
    return set_widgets(prompt, steps=1, frames=3, width=128, height=192)


def prompts(info: dict) -> dict[str, tuple[str, dict]]:
    """Class -> a node of it in the prompt of a shipped workflow, and that prompt, made small."""
    found: dict[str, tuple[str, dict]] = {}
    for file in WORKFLOWS:
        prompt = small(to_prompt(json.loads(file.read_text(encoding="utf-8")), info))
        for number, node in prompt.items():
            found.setdefault(node["class_type"], (number, prompt))
    return found


def with_end(info: dict, prompt: dict, number: str) -> dict:
    """The prompt down to a node, whose first result something shows or saves."""
    part = json.loads(json.dumps(needed(prompt, number)))
    if info[part[number]["class_type"]].info.get("output_node"):
        return part
    part["end"] = {"class_type": "PreviewAny", "inputs": {"source": [number, 0]}}
    return part


def in_turn(values: Sequence[Any], place: int, count: int) -> list[Any]:
    return [values[(place * count + step) % len(values)] for step in range(count)]


def test_every_widget_through_the_server(tally, running):
    before = set(running.base.parent.rglob("*"))
    info = server.described(running.get("/object_info"))
    ours = [kind for kind in sorted(info) if kind.startswith("XDUA_")]
    found, place = prompts(info), 0
    for kind in ours:
        node = info[kind]
        number, prompt = found.get(kind, ("1", {"1": {"class_type": kind, "inputs": {}}}))
        base = with_end(info, prompt, number)
        for name, spec in widgets(node).items():
            place += 1
            values = [*WRONG, *extremes(spec)[:4]]
            values += in_turn(NAMES, place, AT_ONCE) if is_name(name, spec) else []
            for value in values:
                changed, case = json.loads(json.dumps(base)), f"{kind}.{name} = {value!r:.80}"
                changed[number]["inputs"][name] = value
                ask(tally, running, case, changed)
                assert running.process.poll() is None, f"{case} ended the server: {running.log()}"
            # The next prompt runs; its prefix is new, so that something of it has to.
            status = running.wait(running.start(drawing(2, f"next/{place}")))["status"]
            fine = status["status_str"] == "success"
            tally.worked() if fine else tally.lost(f"{kind}.{name}: the next prompt does not run: {status}")
        if kind in found and not any(is_link(value) for value in prompt[number]["inputs"].values()):
            # As it does at the node that was asked for what it cannot do.
            asked_again, reasons = asked(running, base)
            entry = ended(running, asked_again) if asked_again else reasons
            ok = asked_again and "execution_error" not in dict(entry["status"]["messages"])
            tally.worked() if ok else tally.lost(f"{kind}: the next prompt does not run: {entry}")
    written = {file for file in running.base.parent.rglob("*") if running.base not in file.parents}
    assert written <= before, written - before


# ---- what is opened --------------------------------------------------------------------------------------

FOLDERS = ("input", "output", "temp", "models")
OWN_CACHE = re.compile(r"/user/xdyna-unianimate(/(poses|runs)(/\.?[0-9a-f]{32,64}[^/]*(/[\w.-]+)?)?)?$")
"""Below ComfyUI's user folder lies what the pack keeps for itself; its names come from hashes, never from requests."""
TRACED = (*processes.FILE_CALLS, "connect")
BEGIN, END = "xdua-begin", "xdua-end"


def around(base: Path) -> tuple[str, ...]:
    """More names, of files that are there and lie outside: on the way up, whole, and through a link to them.

    No links in the models folder: ComfyUI lists what lies behind those, as people keep models on other disks.
    """
    outside = behind_links(base)
    for folder in ("input", "output", "temp"):
        (base / folder / "link-out").symlink_to(outside, target_is_directory=True)
        for file in outside.iterdir():
            (base / folder / f"link-to-{file.name}").symlink_to(file)
    files = sorted(file.name for file in outside.iterdir())
    ways = ("../../xdua-escape/", "../../../xdua-escape/", f"{outside}/", "link-out/", "link-to-")
    return tuple(way + file for way in ways for file in files)


@pytest.mark.skipif(bool(processes.why_no_trace()), reason=processes.why_no_trace() or "-")
def test_file_names_open_nothing_outside(tally, tmp_path):
    """Every name for every widget that takes one; a trace of the server's calls shows what was opened and changed."""
    base, trace = tmp_path / "comfy", tmp_path / "trace.txt"
    (base / "models" / "unianimate").mkdir(parents=True)
    begin = ["-D", "-y"]
    with server.serving(
        comfy_host.real_path(), ROOT, base, before=processes.tracing(trace, TRACED, *begin)
    ) as one:
        names = (*NAMES, *around(base))
        # What a run opens of ComfyUI and of Python for the first time.
        for prefix in ("baseline/x", f"{BEGIN}/x"):
            one.run(drawing(2, prefix))
        every_name(tally, one, names)
        one.run(drawing(3, f"{END}/x"))
    lines = trace.read_text(errors="replace").splitlines()
    at = {name: next(i for i, line in enumerate(lines) if f"/output/{name}" in line) for name in (BEGIN, END)}
    known = {one.path for one in processes.touched(lines[: at[BEGIN]], base) if not one.writes}
    for line in lines:
        if (
            "connect(" in line
            and re.search(r"AF_INET6?\b", line)
            and not re.search(r"127\.0\.0\.1|::1", line)
        ):
            tally.lost(f"connects: {line}")
    seen = 0
    for call in processes.touched(lines[at[BEGIN] : at[END]], base):
        seen += 1
        if not may_be_touched(call, base, known):
            tally.lost(f"{call.path}: {call.line[:300]}")
    assert seen > 1000, "the trace saw nothing"
    tally.worked()


def every_name(tally: Tally, one: server.Server, names: Sequence[str]) -> None:
    info = server.described(one.get("/object_info"))
    found = prompts(info)
    for kind in sorted(kind for kind in info if kind.startswith("XDUA_")):
        number, prompt = found.get(kind, ("1", {"1": {"class_type": kind, "inputs": {}}}))
        base = with_end(info, prompt, number)
        for name, spec in widgets(info[kind]).items():
            for value in names if is_name(name, spec) else ():
                changed = json.loads(json.dumps(base))
                changed[number]["inputs"][name] = value
                ask(tally, one, f"{kind}.{name} = {value!r:.80}", changed)
        assert one.process.poll() is None, f"{kind} ended the server: {one.log()}"


def may_be_touched(call: processes.Touched, base: Path, known: set[str]) -> bool:
    """Within ComfyUI's folders; else only read, and a part of the programs, or what the start had read already."""
    inside = any(Path(call.path).is_relative_to(base / folder) for folder in FOLDERS)
    if inside or OWN_CACHE.search(call.path) or call.path == "/dev/null":
        return True
    if call.writes or "escape" in call.path or "hostname" in call.path:
        return False
    programs = {*READ_ANYWHERE, *of_this_python(), str(comfy_host.real_path().resolve()), *interpreter()}
    return call.path in known or call.path.startswith(tuple(programs))


@cache
def interpreter() -> tuple[str, ...]:
    """Where the Python that runs ComfyUI looks for its own files."""
    code = "import json, sys, sysconfig; print(json.dumps([sys.prefix, sys.base_prefix, *sys.path[1:]]))"
    told = subprocess.run([server.python(), "-c", code], capture_output=True, text=True, check=True)
    return tuple(form for place in json.loads(told.stdout) for form in (place, str(Path(place).resolve())))


# ---- queues ----------------------------------------------------------------------------------------------


def test_twenty_prompts_wait_in_the_queue(tally, tmp_path):
    """All are sent before the first has ended; every one gives a file of its own."""
    with server.serving(comfy_host.real_path(), ROOT, tmp_path) as running:
        twenty(tally, running)


def twenty(tally: Tally, running: server.Server) -> None:
    sent = [running.start(drawing(2 + number % 3, "queue/same")) for number in range(PROMPTS)]
    queue = running.get("/queue")
    assert len(queue["queue_running"]) + len(queue["queue_pending"]) > PROMPTS // 2
    for number in sent:
        entry = running.wait(number)
        tally.worked() if entry["status"]["status_str"] == "success" else tally.lost(
            str(entry["status"]["messages"])
        )
    assert len(list((running.base / "output" / "queue").iterdir())) == PROMPTS


def test_two_servers_share_models_and_cache(tally, tmp_path, monkeypatch):
    """The same workflow on both at the same time, with weights from the one models folder and one pose cache."""
    monkeypatch.setenv("XDUA_CACHE", str(tmp_path / "cache"))
    models = tmp_path / "models"
    (models / "unianimate").mkdir(parents=True)
    shutil.copy(checkpoints.UNIANIMATE, models / "unianimate" / "shared.safetensors")
    with ExitStack() as stack:
        both = []
        for name in ("one", "two"):
            base = tmp_path / name
            base.mkdir()
            (base / "models").symlink_to(models, target_is_directory=True)
            both.append(stack.enter_context(server.serving(comfy_host.real_path(), ROOT, base)))
        info = server.described(both[0].get("/object_info"))
        file = next(file for file in WORKFLOWS if file.stem == "unianimate_short")
        prompt = small(to_prompt(json.loads(file.read_text(encoding="utf-8")), info))
        loaders = [node for node in prompt.values() if node["class_type"] == "XDUA_LoadUniAnimate"]
        for node in loaders:
            node["inputs"]["unet"] = "shared.safetensors"
        assert loaders
        for seed in range(3):
            numbers = [one.start(set_widgets(json.loads(json.dumps(prompt)), seed=seed)) for one in both]
            for one, number in zip(both, numbers, strict=True):
                status = one.wait(number, 300)["status"]
                tally.worked() if status["status_str"] == "success" else tally.lost(
                    str(status["messages"])[:1500]
                )
    assert list((tmp_path / "cache").rglob("*.npz"))
    assert not [*(tmp_path / "cache").rglob("*.part"), *models.rglob("*.partial")]
    first, second = (
        sorted(file.name for file in (tmp_path / name / "output").rglob("*.*")) for name in ("one", "two")
    )
    assert first and first == second
