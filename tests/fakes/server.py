"""The real program as a server in its own process and throw-away directory, and the calls tests need."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .executor import Prompt

START_LIMIT = 120.0
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
ON_CPU = Path(__file__).with_name("on_cpu.py")
LOADING = Path(__file__).with_name("loading.py")


@dataclass(frozen=True)
class Server:
    """A running ComfyUI: where it listens, where its files lie, which process it is."""

    url: str
    base: Path
    process: subprocess.Popen

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=60) as reply:
            return json.loads(reply.read())

    def post(self, path: str, content: Any) -> Any:
        request = urllib.request.Request(self.url + path, json.dumps(content).encode())
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                answer = reply.read()
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path}: {error.read().decode()}") from error
        return json.loads(answer) if answer else None

    def start(self, prompt: Prompt, client: str = "") -> str:
        """Queue a prompt for a listener's client id; the prompt's id.

        AssertionError with the server's reasons when any node of it is refused.
        """
        content = {"prompt": prompt, "extra_data": {"extra_pnginfo": {"workflow": {}}}}
        answer = self.post("/prompt", content | ({"client_id": client} if client else {}))
        assert not answer.get("node_errors"), answer["node_errors"]
        return answer["prompt_id"]

    def wait(self, prompt_id: str, limit: float = 120.0) -> dict[str, Any]:
        """The history entry of a prompt that has ended, well or not."""
        end = time.monotonic() + limit
        while time.monotonic() < end:
            entry = self.get(f"/history/{prompt_id}").get(prompt_id)
            if entry and entry.get("status", {}).get("status_str"):
                return entry
            time.sleep(0.1)
        raise AssertionError(f"the prompt did not end within {limit} s:\n{self.log()}")

    def run(self, prompt: Prompt, limit: float = 120.0) -> dict[str, Any]:
        """What every output node showed. AssertionError with the messages when a node failed."""
        entry = self.wait(self.start(prompt), limit)
        assert entry["status"]["status_str"] == "success", entry["status"]["messages"]
        return entry["outputs"]

    def memory(self) -> int:
        """Resident bytes of the process (Linux)."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def files(self) -> set[Path]:
        """All that lies in its folders for outputs and temporary files, and in those of Python."""
        folders = (self.base / name for name in ("output", "temp", "tmp"))
        return {path for folder in folders for path in folder.rglob("*") if path.is_file()}

    def whole_log(self) -> str:
        return (self.base / "server.log").read_text(errors="replace")

    def log(self) -> str:
        return "\n".join(self.whole_log().splitlines()[-60:])


@contextmanager
def serving(
    comfyui: Path, pack: Path, base: Path, *options: str, cpu: bool = True, before: Sequence[str] = ()
) -> Iterator[Server]:
    """ComfyUI with one pack linked into its custom_nodes, on a free port of this machine.

    cpu: with ``--cpu``; else it is made to take the CPU for a GPU, for options that do not go with ``--cpu``.
    before: words of a program that starts it and leaves it the process's number (``strace -D``).
    """
    linked(pack, base)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = [str(comfyui / "main.py"), "--cpu"] if cpu else [str(ON_CPU), str(comfyui / "main.py")]
    command = [*before, python(), *program, "--port", str(port), *usual(base), *options]
    environment = apart(base)
    with (base / "server.log").open("w") as log:
        process = subprocess.Popen(command, cwd=base, env=environment, stdout=log, stderr=subprocess.STDOUT)
        server = Server(f"http://127.0.0.1:{port}", base, process)
        try:
            _until_it_listens(server)
            yield server
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def loaded(comfyui: Path, pack: Path, base: Path) -> dict[str, Any]:
    """A start that ends when all packs are loaded: the report of ``loading.py``, and ``log``, what was printed."""
    link, report = linked(pack, base), base / "report.json"
    command = [python(), str(LOADING), str(comfyui / "main.py"), str(link), str(report), "--cpu"]
    done = subprocess.run(
        [*command, "--quick-test-for-ci", *usual(base)],
        cwd=base,
        env=apart(base),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=START_LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return {**json.loads(report.read_text(encoding="utf-8")), "log": done.stdout}


def python() -> str:
    """The Python that runs ComfyUI."""
    return os.environ.get("COMFY_PYTHON", sys.executable)


def linked(pack: Path, base: Path) -> Path:
    """The pack's link below a base directory with all of ComfyUI's folders."""
    for name in ("input", "output", "temp", "user", "models", "custom_nodes", "tmp"):
        (base / name).mkdir(parents=True, exist_ok=True)
    link = base / "custom_nodes" / "xdyna-unianimate"
    link.symlink_to(pack, target_is_directory=True)
    return link


def usual(base: Path) -> list[str]:
    """Options of every start: files below ``base`` only, no page opened, no nodes that call services."""
    files = ["--base-directory", str(base), "--database-url", "sqlite:///:memory:"]
    return [*files, "--disable-auto-launch", "--disable-api-nodes"]


def apart(base: Path) -> dict[str, str]:
    """This process's environment without its own import path, offline, and with a folder for temporary files."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | OFFLINE
    return environment | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(base / "tmp"))


def _until_it_listens(server: Server) -> None:
    end = time.monotonic() + START_LIMIT
    while time.monotonic() < end:
        assert server.process.poll() is None, f"ComfyUI ended before it listened:\n{server.log()}"
        try:
            server.get("/system_stats")
            return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)
    raise AssertionError(f"ComfyUI did not listen within {START_LIMIT} s:\n{server.log()}")


@dataclass(frozen=True)
class Described:
    """A node as /object_info tells it, enough like a class for ``workflow.to_prompt``."""

    info: Mapping[str, Any]

    def INPUT_TYPES(self) -> Mapping[str, Any]:
        return self.info["input"]


def described(object_info: Mapping[str, Any]) -> dict[str, Described]:
    """{node id: description} of all nodes of a server."""
    return {name: Described(info) for name, info in object_info.items()}
