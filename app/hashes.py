"""sha256 of big files, computed once: remembered by path, size and time of the last change."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..video_core.asides import written_aside
from .state import content_of

FILE = "hashes.json"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HashBook:
    """What was computed before, in one small JSON file of the place of all state; losing it costs time only."""

    file: Path

    @classmethod
    def at(cls, place: Path) -> HashBook:
        """The book of a place (``state.place``), which need not exist yet."""
        return cls(place / FILE)

    def known(self, path: Path) -> str | None:
        """64 hex digits if the file has not changed since they were computed, else None."""
        return self._entries().get(_key(path))

    def of(self, path: Path) -> str:
        """64 hex digits; reads the whole file where they are not known. Raises OSError."""
        digest = self.known(path)
        if digest is None:
            digest = content_of(path)
            self.put(path, digest)
        return digest

    def put(self, path: Path, digest: str) -> None:
        """Remember a digest; entries of files that changed or went are dropped. Never raises OSError."""
        kept = {key: value for key, value in self._entries().items() if _is_current(key)}
        try:
            with written_aside(self.file) as aside:
                aside.write(json.dumps({**kept, _key(path): digest}, indent=1).encode())
        except OSError as error:
            log.info("The hash of %s could not be remembered: %s", path, error)

    def _entries(self) -> Mapping[str, str]:
        try:
            entries = json.loads(self.file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return entries if isinstance(entries, dict) else {}


def _key(path: Path) -> str:
    state = path.stat()
    return f"{state.st_size} {state.st_mtime_ns} {path.absolute()}"


def _is_current(key: str) -> bool:
    try:
        return _key(Path(key.split(" ", 2)[2])) == key
    except (OSError, IndexError):
        return False
