"""A web server on this machine that offers files as a hub does, and can misbehave."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Hub:
    """What is offered and how the server behaves.

    asked:  the Range header of every request, None where there was none.
    breaks: for each request in turn, after how many bytes of the answer the line goes dead (None: never).
    status: answer every request with this error.
    ranges: whether it can go on in the middle of a file.
    """

    address: str
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str | None] = field(default_factory=list)
    agents: list[str] = field(default_factory=list)
    breaks: list[int | None] = field(default_factory=list)
    status: int | None = None
    ranges: bool = True

    def offer(self, name: str, content: bytes) -> str:
        """Its address."""
        self.files[f"/{name}"] = content
        return f"{self.address}/{name}"


class _Answers(BaseHTTPRequestHandler):
    hub: Hub

    def do_GET(self) -> None:
        hub, asked = self.hub, self.headers.get("Range")
        hub.asked.append(asked)
        hub.agents.append(self.headers.get("User-Agent", ""))
        if hub.status is not None or self.path not in hub.files:
            self.send_error(hub.status or 404)
            return
        content = hub.files[self.path]
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and hub.ranges else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        end = hub.breaks.pop(0) if hub.breaks else None
        self.wfile.write(content[start:] if end is None else content[start : start + end])

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


@contextmanager
def serving() -> Iterator[Hub]:
    """The server on a free port of this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    hub = Hub(f"http://127.0.0.1:{server.server_port}")
    server.RequestHandlerClass = type("Answers", (_Answers,), {"hub": hub})
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
