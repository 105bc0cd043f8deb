"""Python in a process of its own: its peak memory measured, its system calls traced, its life limited."""

from __future__ import annotations

import gc
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median

PEAK = "/proc/self/clear_refs"

PRELUDE = """
import json, sys
def status(key):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(key))
def forget_peak():
    open("/proc/self/clear_refs", "w").write("5")
    return status("VmRSS")
def peak_since(before):
    return max(status("VmHWM") - before, 0)
def report(**found):
    print("REPORT " + json.dumps(found), flush=True)
"""
"""What every script may use: ``before = forget_peak()``, ``peak_since(before)``, ``report(name=value)``."""


@dataclass(frozen=True)
class Finished:
    """A process that ended. reports: what it gave to ``report``, in order; trace: strace's lines."""

    code: int
    text: str
    reports: list[dict]
    trace: list[str]


def resident() -> float:
    """MB of this process now."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def growth(memory: Sequence[float]) -> float:
    """By how much the middle of the last quarter lies above that of the second; the first quarter warms up.

    0 of fewer than four, which say nothing.
    """
    quarter = len(memory) // 4
    if not quarter:
        return 0.0
    return median(memory[-quarter:]) - median(memory[quarter : 2 * quarter])


def can_measure() -> bool:
    """Whether this system tells a process its peak memory and lets it be reset (Linux)."""
    return Path(PEAK).exists()


@cache
def why_no_trace() -> str:
    """Why system calls cannot be traced here; empty where they can."""
    strace = shutil.which("strace")
    if strace is None:
        return "strace is not installed"
    tried = subprocess.run(
        [strace, "-e", "execve", sys.executable, "-c", "1"], capture_output=True, text=True
    )
    return "" if tried.returncode == 0 else f"strace cannot trace here: {tried.stderr.strip()[:120]}"


@cache
def _quick() -> tuple[str, ...]:
    """The option of newer versions by which calls that are not traced cost nothing."""
    option = "--seccomp-bpf"
    tried = subprocess.run(["strace", "-f", option, "-e", "execve", "true"], capture_output=True)
    return () if tried.returncode else (option,)


def tracing(written: Path, calls: Sequence[str], *options: str) -> list[str]:
    """The words before a command that have its system calls written down, of all threads and child processes."""
    chosen = ["-e", f"trace={','.join(calls)}", "-o", str(written)]
    return ["strace", "-f", *_quick(), "-qq", "-s", "4096", *options, *chosen]


def run_python(
    script: str,
    *arguments: str,
    trace: Sequence[str] = (),
    timeout: float = 300,
    environment: dict[str, str] | None = None,
    folder: Path | None = None,
    before: Sequence[str] = (),
) -> Finished:
    """Run ``PRELUDE`` and the script; ``arguments`` are its ``sys.argv[1:]``, ``before`` the words before Python's.

    trace: names of system calls ("execve", "openat", "connect") to be written down by strace, of all threads
    and child processes. Raises TimeoutExpired where it takes longer than ``timeout`` seconds.
    """
    command = [*before, sys.executable, "-c", PRELUDE + script, *arguments]
    written = None
    if trace:
        written = Path(folder or ".") / f"trace-{os.getpid()}.txt"
        command = [*tracing(written, trace), *command]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
        env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
        cwd=folder,
    )
    lines = done.stdout.splitlines()
    reports = [json.loads(line.removeprefix("REPORT ")) for line in lines if line.startswith("REPORT ")]
    traced = written.read_text(errors="replace").splitlines() if written else []
    return Finished(done.returncode, done.stdout + done.stderr, reports, traced)


# ---- what a trace shows -----------------------------------------------------------------------------------

FILE_CALLS = (
    "open", "openat", "openat2", "creat", "truncate", "rename", "renameat", "renameat2", "link", "linkat", "symlink",
    "symlinkat", "unlink", "unlinkat", "rmdir", "mkdir", "mkdirat", "mknod", "mknodat", "chmod", "fchmodat", "chown",
    "lchown", "fchownat", "utimensat",
)  # fmt: skip
"""System calls that open, make, move or change what has a name."""

_LINE = re.compile(r"(?P<process>\d+) +(?P<rest>.*)")
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>(?P<rest>.*)")
_CALL = re.compile(r"(?P<name>\w+)\((?P<given>.*)\) += (?P<result>.*)")
_PLACE = re.compile(r'(?:(?:AT_FDCWD|\d+)<(?P<folder>(?:[^>\\]|\\.)*)>, )?"(?P<name>(?:[^"\\]|\\.)*)"')
_OPENED = re.compile(r"\d+<(?P<place>/.*)>$")


@dataclass(frozen=True)
class Touched:
    """A path that a system call was given. path: where it really lies, links followed.

    writes: whether it was made, changed, moved or taken away, and not only read; failed: it did not come to that.
    """

    call: str
    path: str
    writes: bool
    failed: bool
    line: str


def touched(trace: Sequence[str], folder: Path) -> Iterator[Touched]:
    """All paths of the ``FILE_CALLS`` in a trace whose options hold ``-y``. folder: that the process works in."""
    for line in _whole(trace):
        found = _CALL.match(line)
        if found is None or found["name"] not in FILE_CALLS:
            continue
        opens, failed = (
            found["name"] in ("open", "openat", "openat2", "creat"),
            found["result"].startswith("-1"),
        )
        writes = not opens or bool(re.search("O_WRONLY|O_RDWR|O_CREAT|O_TRUNC", found["given"]))
        opened = _OPENED.match(found["result"])
        if opens and opened:
            yield Touched(found["name"], _unescaped(opened["place"]), writes, failed, line)
            continue
        for place in _PLACE.finditer(found["given"]):
            if found["name"].startswith("symlink") and place.start() == 0:
                continue  # What a link says is no path that is touched.
            path = Path(_unescaped(place["folder"] or str(folder)), _unescaped(place["name"]))
            real = os.path.normpath(Path(os.path.realpath(path.parent)) / path.name)
            yield Touched(found["name"], real, writes, failed, line)


def _whole(trace: Sequence[str]) -> Iterator[str]:
    """Calls without the process's number; those that another interrupted are put together."""
    begun: dict[str, str] = {}
    for line in trace:
        found = _LINE.match(line)
        if found is None:
            continue
        process, rest = found["process"], found["rest"]
        resumed = _RESUMED.match(rest)
        if rest.endswith(" <unfinished ...>"):
            begun[process] = rest.removesuffix(" <unfinished ...>")
        elif resumed:
            yield begun.pop(process, "") + resumed["rest"]
        else:
            yield rest


def _unescaped(text: str) -> str:
    """A path as strace writes it (C escapes, octal) -> the path."""
    return text.encode().decode("unicode_escape").encode("latin-1").decode(errors="surrogateescape")


def started(trace: Sequence[str]) -> list[str]:
    """The traced lines of programs that were started, or were tried to be: the first is the process itself.

    Without the system's list of libraries (``ldconfig -p``), which torch's CUDA build asks for when imported.
    """
    return [
        line for line in trace if "execve(" in line and '/ldconfig", ["/sbin/ldconfig", "-p"]' not in line
    ]
