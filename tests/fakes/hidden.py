"""Libraries as if they were not installed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from typing import Any


class _Blind:
    """A finder of modules that does not see some libraries."""

    def __init__(self, finder: Any, libraries: tuple[str, ...]) -> None:
        self._finder, self._libraries = finder, libraries

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name.split(".")[0] in self._libraries:
            return None
        return self._finder.find_spec(name, path, target)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._finder, name)


@contextmanager
def hidden(*libraries: str) -> Iterator[None]:
    """They cannot be found or imported, not even where they were imported before."""
    finders, modules = list(sys.meta_path), dict(sys.modules)
    sys.meta_path[:] = [_Blind(finder, libraries) for finder in finders]
    for name in modules:
        if name.split(".")[0] in libraries:
            del sys.modules[name]
    try:
        yield
    finally:
        sys.meta_path[:] = finders
        sys.modules.update({name: one for name, one in modules.items() if name.split(".")[0] in libraries})
