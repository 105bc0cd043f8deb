"""The nodes: the only folder that knows ComfyUI. A node is its schema, one call, and what it returns."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib import import_module

from .api import ComfyExtension, io

MODULES = (
    "pose",
    "loaders",
    "unianimate",
    "xdyna",
    "video",
    "compare",
    "quality",
    "tools",
    "fast",
    "run_options",
    "estimate",
)
"""Modules with a tuple ``NODES``, in the order of the menu."""

log = logging.getLogger(__name__)


def load(modules: Sequence[str] = MODULES) -> tuple[list[type[io.ComfyNode]], dict[str, str]]:
    """The node classes, and {module: why} for those that could not be imported.

    A library that is missing costs the nodes of one module, not the pack.
    """
    nodes: list[type[io.ComfyNode]] = []
    failed: dict[str, str] = {}
    for name in modules:
        try:
            nodes += import_module(f".{name}", __name__).NODES
        except ImportError as error:
            failed[name] = str(error)
            log.warning("X-Dyna + UniAnimate: the nodes of %s are left out: %s", name, error)
    return nodes, failed


class Pack(ComfyExtension):
    """What ComfyUI asks for the node list."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return load()[0]


async def comfy_entrypoint() -> Pack:
    """Called once by ComfyUI when it loads the pack; registers the model folders and nothing else."""
    from . import paths

    paths.register()
    return Pack()
