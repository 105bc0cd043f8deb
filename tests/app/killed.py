"""Run as a process of its own: ``animate`` on small networks, which may stop inside a write to be killed there.

Takes ``words`` (of the command line), ``environment``, ``weights`` (name in demo.checkpoints -> file), and
``hang`` = number of the write in the middle of which it stands still, None for none.
"""

from __future__ import annotations

import io
import os
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import IO, Any

given: dict[str, Any] = globals()["given"]


class Torn(io.FileIO):
    """A file of which half is written when its process is killed."""

    def write(self, data: bytes) -> int:
        super().write(memoryview(data)[: len(data) // 2])
        os.fsync(self.fileno())
        Path(given["hung"]).touch()
        time.sleep(600)
        return 0


def torn(number: int) -> None:
    """From the given write of kept state on, nothing is finished any more."""
    opened, count = os.fdopen, 0

    def fdopen(handle: int, *args: Any, **options: Any) -> IO[bytes]:
        nonlocal count
        count += 1
        return Torn(handle, "wb") if count == number else opened(handle, *args, **options)

    os.fdopen = fdopen


def main() -> int:
    os.environ.update(given["environment"])
    import torch
    from xdyna_unianimate.app import cli
    from xdyna_unianimate.demo import checkpoints

    torch.set_num_threads(1)
    for name, file in given["weights"].items():
        setattr(checkpoints, name, Path(file))
    if given["hang"] is not None:
        torn(given["hang"])
    Path(given["started"]).touch()
    with Path(given["log"]).open("w", encoding="utf-8") as log, redirect_stdout(log), redirect_stderr(log):
        return cli.main(given["words"])


code = main()
Path(given["ended"]).write_text(str(code), encoding="utf-8")
