"""Loads a pack in the real program as it starts, and writes down what that did, as JSON.

``python loading.py MAIN PACK REPORT OPTION ...``: ComfyUI's main.py, the pack's folder as ComfyUI sees it, the
file for the report, and options, ``--quick-test-for-ci`` among them, with which it ends after loading.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from pathlib import Path

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
TOUCHES = (
    "socket.connect", "socket.bind", "socket.send", "socket.getaddrinfo", "subprocess.", "shutil.", "urllib.",
    "os.mkdir", "os.rmdir", "os.remove", "os.rename", "os.link", "os.symlink", "os.truncate", "os.system", "os.exec",
    "os.posix_spawn", "os.putenv", "tempfile.",
)  # fmt: skip
"""Starts of the audit events that touch network, disk, other programs or the environment; opening files is apart."""


def touches(event: str, given: tuple) -> bool:
    """Whether an audit event is more than reading; Python's own compiled files do not count."""
    if "__pycache__" in repr(given):
        return False
    if event == "open":
        return isinstance(given[2], int) and bool(given[2] & WRITES)
    return event.startswith(TOUCHES)


def comes_from(folder: str) -> bool:
    """Whether a file of the folder is among those that are running now."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename.startswith(folder):
            return True
        frame = frame.f_back
    return False


class Watch:
    """From now on, what code of a folder, or code that it calls, imports and touches.

    imports: modules that were not there before. told: a line for each time it does more than read.
    """

    def __init__(self, folder: str) -> None:
        self.imports: list[str] = []
        self.told: list[str] = []
        self._folder = folder
        sys.addaudithook(self._audit)

    def _audit(self, event: str, given: tuple) -> None:
        if event == "import" and comes_from(self._folder):
            self.imports.append(given[0])
        elif touches(event, given) and comes_from(self._folder):
            self.told.append(f"{event} {given!r}"[:300])


def main(program: str, pack: str, report: str, *options: str) -> None:
    sys.path.insert(0, str(Path(program).parent))
    sys.argv = [program, *options]
    watch = Watch(pack)
    try:
        runpy.run_path(program, run_name="__main__")
    except SystemExit as end:
        assert not end.code, f"ComfyUI ended with {end.code}"
    found = {"imports": list(watch.imports), "told": list(watch.told), "modules": sorted(sys.modules)}
    Path(report).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
