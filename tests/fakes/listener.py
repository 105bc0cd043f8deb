"""What the page hears of a run: the server's messages over its websocket, collected with their times."""

from __future__ import annotations

import base64
import json
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import urlsplit

TEXT, BINARY, CLOSE = 1, 2, 8
PREVIEW = 1
"""Of the binary messages: a picture for the page that knows no newer kind."""


class Heard(NamedTuple):
    """One message. kind: its type, or ``preview``, whose content is the picture's bytes."""

    when: float
    kind: str
    content: Any


@dataclass
class Listener:
    """A page that only listens; prompts queued under its ``client`` id tell it what they do."""

    client: str
    heard: list[Heard] = field(default_factory=list)
    _news: threading.Condition = field(default_factory=threading.Condition)

    def of(self, kind: str, **wanted: Any) -> list[Heard]:
        """The messages of a kind so far whose content has these entries."""
        return [
            one
            for one in list(self.heard)
            if one.kind == kind and all(one.content.get(key) == value for key, value in wanted.items())
        ]

    def until(self, kind: str, count: int = 1, limit: float = 120.0, **wanted: Any) -> Heard:
        """The ``count``-th message of a kind, waited for."""
        with self._news:
            came = self._news.wait_for(lambda: len(self.of(kind, **wanted)) >= count, limit)
        assert came, f"{len(self.of(kind, **wanted))} of {count} messages {kind} {wanted} within {limit} s"
        return self.of(kind, **wanted)[count - 1]

    def _take(self, heard: Heard) -> None:
        with self._news:
            self.heard.append(heard)
            self._news.notify_all()


@contextmanager
def listening(url: str, client: str) -> Iterator[Listener]:
    """A websocket to a ComfyUI at ``url``."""
    address = urlsplit(url)
    connection = socket.create_connection((address.hostname, address.port), timeout=30)
    key = base64.b64encode(os.urandom(16)).decode()
    connection.sendall(
        f"GET /ws?clientId={client} HTTP/1.1\r\nHost: {address.netloc}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    stream = connection.makefile("rb")
    assert b" 101 " in stream.readline()
    while stream.readline().strip():
        pass
    connection.settimeout(None)
    listener = Listener(client)
    thread = threading.Thread(target=_collect, args=(stream, listener), daemon=True)
    thread.start()
    try:
        yield listener
    finally:
        connection.shutdown(socket.SHUT_RDWR)
        thread.join(10)
        stream.close()
        connection.close()


def _collect(stream: Any, listener: Listener) -> None:
    for kind, content in _messages(stream):
        now = time.monotonic()
        if kind == TEXT:
            message = json.loads(content)
            listener._take(Heard(now, message["type"], message.get("data", {})))
        elif kind == BINARY and struct.unpack(">I", content[:4])[0] == PREVIEW:
            listener._take(Heard(now, "preview", content[8:]))


def _messages(stream: Any) -> Iterator[tuple[int, bytes]]:
    """(opcode, content) of whole messages, until the connection ends (RFC 6455, unmasked, no extensions)."""
    opcode, parts = 0, []
    while len(head := stream.read(2)) == 2:
        length = head[1] & 127
        if length > 125:
            size = 2 if length == 126 else 8
            length = int.from_bytes(stream.read(size), "big")
        parts.append(stream.read(length))
        opcode = head[0] & 15 or opcode
        if opcode == CLOSE:
            return
        if head[0] & 128:
            yield opcode, b"".join(parts)
            parts = []
