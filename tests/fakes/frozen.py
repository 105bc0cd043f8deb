"""What saved workflows rely on: ids, the order and kind of every input, lists, outputs; kept in one file.

``python -m tests.fakes.frozen`` from the repository's root writes that file anew. Only additions are
written: nodes, optional inputs at the end, entries of lists, outputs at the end. A change that
would break saved workflows is refused with its list.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import comfy_host

GOLDEN = Path(__file__).resolve().parents[1] / "nodes" / "golden" / "object_info.json"
KEPT = ("default", "min", "max", "step", "multiline", "forceInput", "control_after_generate")
FILE_LISTS = {
    "XDUA_LoadClip": ("clip",),
    "XDUA_LoadClipVision": ("clip_vision",),
    "XDUA_LoadPose": ("file",),
    "XDUA_LoadUniAnimate": ("unet",),
    "XDUA_LoadVae": ("vae",),
    "XDUA_LoadXDyna": ("unet", "base", "motion_module", "ip_adapter"),
    "XDUA_LoadXDynaControlNet": ("controlnet",),
}
"""Lists of what lies on a disk: their entries are not frozen, their defaults are."""

Frozen = dict[str, dict[str, Any]]


def frozen(
    input_types: Mapping[str, Any], types: Sequence[str], names: Sequence[str], node: str
) -> dict[str, Any]:
    """One node: its inputs in the page's order (required first) and its outputs."""
    inputs = []
    for group in ("required", "optional"):
        for name, (kind, *rest) in (input_types.get(group) or {}).items():
            options = rest[0] if rest else {}
            listed = kind if isinstance(kind, (list, tuple)) else options.get("options")
            entry = {"name": name, "type": "COMBO" if isinstance(kind, (list, tuple)) else str(kind)}
            entry |= {"optional": True} if group == "optional" else {}
            entry |= {key: options[key] for key in KEPT if options.get(key) not in (None, False)}
            entry |= {"default": False} if options.get("default") is False else {}
            if listed is not None and name not in FILE_LISTS.get(node, ()):
                entry["options"] = list(listed)
            inputs.append(entry)
    return {"inputs": inputs, "outputs": [[str(kind), name] for kind, name in zip(types, names, strict=True)]}


def of_classes(pack: Mapping[str, type]) -> Frozen:
    """The pack as its classes tell it."""
    return {
        name: frozen(node.INPUT_TYPES(), node.RETURN_TYPES, node.RETURN_NAMES, name)
        for name, node in sorted(pack.items())
    }


def of_server(object_info: Mapping[str, Any], prefix: str = "XDUA_") -> Frozen:
    """The pack as a server's /object_info tells it."""
    return {
        name: frozen(node["input"], node["output"], node["output_name"], name)
        for name, node in sorted(object_info.items())
        if name.startswith(prefix)
    }


def broken(golden: Frozen, now: Frozen) -> list[str]:
    """What saved workflows would lose, a sentence each; additions at the ends are none."""
    found = [f"{name} is gone" for name in golden if name not in now]
    for name in golden:
        if name in now:
            found += [f"{name}: {text}" for text in _broken_node(golden[name], now[name])]
    return found


def _broken_node(golden: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for place, old in enumerate(golden["inputs"]):
        if place >= len(now["inputs"]):
            yield f"input {old['name']} is gone"
            continue
        new = now["inputs"][place]
        if new["name"] != old["name"]:
            yield f"input {place} was {old['name']} and is {new['name']}"
            continue
        yield from _broken_input(old, new)
    for new in now["inputs"][len(golden["inputs"]) :]:
        if not new.get("optional"):
            yield f"the new input {new['name']} must be optional: saved prompts do not hold it"
    for place, old in enumerate(golden["outputs"]):
        new = now["outputs"][place] if place < len(now["outputs"]) else None
        if new != old:
            yield f"output {place} was {old} and is {new}"


def _broken_input(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for key in sorted({*old, *new} - {"name", "options"}):
        if old.get(key) != new.get(key):
            yield f"{key} of {old['name']} was {old.get(key)!r} and is {new.get(key)!r}"
    lost = [entry for entry in old.get("options", ()) if entry not in new.get("options", ())]
    if lost:
        yield f"{old['name']} no longer offers {lost}"


def read() -> Frozen:
    return json.loads(GOLDEN.read_text(encoding="utf-8"))


def text(pack: Frozen) -> str:
    """Readable JSON: one line per input and output."""
    nodes = []
    for name, node in pack.items():
        parts = [
            f'    "{key}": [' + ",".join(f"\n      {json.dumps(row)}" for row in node[key]) + "\n    ]"
            for key in ("inputs", "outputs")
        ]
        nodes.append(f'  "{name}": {{\n' + ",\n".join(parts) + "\n  }")
    return "{\n" + ",\n".join(nodes) + "\n}\n"


def main() -> int:
    with tempfile.TemporaryDirectory() as base, comfy_host.running(Path(base)) as host:
        now = of_classes(host.pack)
    lost = broken(read(), now) if GOLDEN.is_file() else []
    if lost:
        sys.stderr.write("\n".join(["Not written, as saved workflows would break:", *lost, ""]))
        return 1
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(text(now), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
