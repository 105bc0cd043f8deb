"""The one import of comfy_api, and schemas that every ComfyUI from 0.3.64 on accepts.

Fields that ComfyUI learned later (search aliases, folded inputs) are given where it knows them and
left out where it does not: its schema is a strict dataclass, on which an unknown field is a TypeError
that would cost the whole pack.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, TypeVar

try:
    from comfy_api.v0_0_2 import ComfyExtension, Input, InputImpl, Types, io, ui
except ImportError:
    from comfy_api.latest import ComfyExtension, Input, InputImpl, Types, io, ui

__all__ = [
    "CATEGORY",
    "LACKS",
    "PREFIX",
    "ComfyExtension",
    "Input",
    "InputImpl",
    "Types",
    "advanced",
    "chosen",
    "io",
    "schema",
    "seed",
    "ui",
]

T = TypeVar("T")

PREFIX = "XDUA_"
CATEGORY = "X-Dyna + UniAnimate"
MAX_SEED = 2**64 - 1

PACKAGES = {"av": "av", "cv2": "opencv-python", "diffusers": "diffusers", "onnxruntime": "onnxruntime-gpu"}
"""Import name -> the name under which pip installs it."""


LACKS = " missing)"
"""How the title of a node ends that lacks a library."""


def schema(
    name: str,
    *,
    display_name: str,
    menu: str,
    description: str,
    inputs: Sequence[io.Input],
    outputs: Sequence[io.Output],
    needs: Sequence[str] = (),
    **options: Any,
) -> io.Schema:
    """The schema of one node.

    name:    without the prefix; ``XDUA_<name>`` is the id, which never changes once published.
    menu:    the sub-menu below the pack's own category.
    inputs:  in their final order: later ones are appended, as saved workflows hold values by position.
    needs:   import names of optional libraries; one that is missing is named in the node's title and text,
             and the node raises ImportError when it runs.
    options: further fields of ``io.Schema``; those this ComfyUI does not know are left out.
    """
    missing = [PACKAGES.get(library, library) for library in needs if find_spec(library) is None]
    if missing:
        display_name += f" ({', '.join(missing)}{LACKS}"
        description = f"Cannot run yet: pip install {' '.join(missing)}. {description}"
    return io.Schema(
        node_id=f"{PREFIX}{name}",
        display_name=display_name,
        category=f"{CATEGORY}/{menu}",
        description=description,
        inputs=list(inputs),
        outputs=list(outputs),
        **_known(io.Schema, options),
    )


def advanced(kind: Callable[..., io.Input], name: str, **options: Any) -> io.Input:
    """An input folded away where ComfyUI can do so: ``advanced(io.Int.Input, "stride", default=1)``."""
    return kind(name, **options, **_known(kind, {"advanced": True}))


def seed(tooltip: str) -> io.Input:
    """The seed widget. It saves two values: the number, and what happens to it after a run."""
    return io.Int.Input("seed", default=0, min=0, max=MAX_SEED, control_after_generate=True, tooltip=tooltip)


def chosen(table: Mapping[str, T], choice: str, what: str) -> T:
    """What a list's entry stands for; ValueError for others, which 0.3.64 lets through."""
    if not isinstance(choice, str) or choice not in table:
        raise ValueError(f"{what}: there is no {str(choice)[:80]!r}; choose one of {', '.join(table)}.")
    return table[choice]


def _known(call: Callable[..., Any], options: dict[str, Any]) -> dict[str, Any]:
    accepted = inspect.signature(call).parameters
    return {name: value for name, value in options.items() if name in accepted}
