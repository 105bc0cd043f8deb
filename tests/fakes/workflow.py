"""From the workflow file that the page saves to the API prompt that the page would send."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .executor import DYNAMIC_COMBO, Prompt

SHOWN_ONLY = {"Note", "MarkdownNote"}
REROUTE = "Reroute"
NEVER, BYPASS = 2, 4
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", DYNAMIC_COMBO}
UPLOADS = ("image_upload", "video_upload", "audio_upload", "file_upload")


def widgets(cls: type) -> list[str | None]:
    """A node's widgets in the order of ``widgets_values``; None where the page adds one of its own."""
    names: list[str | None] = []
    types = cls.INPUT_TYPES()
    for name, spec in {**types.get("required", {}), **types.get("optional", {})}.items():
        options = spec[1] if len(spec) > 1 else {}
        if not (isinstance(spec[0], list) or spec[0] in WIDGETS) or options.get("forceInput"):
            continue
        names.append(name)
        if options.get("control_after_generate") or any(options.get(upload) for upload in UPLOADS):
            names.append(None)
    return names


def to_prompt(workflow: Mapping[str, Any], classes: Mapping[str, type]) -> Prompt:
    """The prompt of a UI-format workflow (version 0.4 without sub-graphs).

    Muted nodes are left out, bypassed ones are passed through by type, notes are ignored.
    """
    nodes = {node["id"]: node for node in workflow["nodes"]}
    links = {link[0]: (link[1], link[2]) for link in workflow["links"]}
    prompt: Prompt = {}
    for node in sorted(nodes.values(), key=lambda n: n.get("order", 0)):
        if node["type"] in SHOWN_ONLY | {REROUTE} or node.get("mode", 0) in (NEVER, BYPASS):
            continue
        if node["type"] not in classes:
            raise ValueError(f"node {node['id']}: there is no node {node['type']}")
        inputs = _widget_values(node, classes[node["type"]])
        for socket in node.get("inputs", []):
            source = _source(links.get(socket.get("link")), nodes, links)
            if source is not None:
                inputs[socket["name"]] = [str(source[0]), source[1]]
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt


def _widget_values(node: Mapping[str, Any], cls: type) -> dict[str, Any]:
    saved = node.get("widgets_values") or []
    if isinstance(saved, dict):
        return {name: saved[name] for name in widgets(cls) if name in saved}
    names = widgets(cls)
    if len(saved) > len(names):
        raise ValueError(
            f"node {node['id']} ({node['type']}): {len(saved)} widget values saved, {len(names)} widgets"
        )
    return {name: value for name, value in zip(names, saved, strict=False) if name is not None}


def _source(link: tuple | None, nodes: Mapping[int, Any], links: Mapping[int, tuple]) -> tuple | None:
    """Where a link really starts: through reroutes and bypassed nodes; None at a muted node."""
    while link is not None:
        node = nodes[link[0]]
        mode = node.get("mode", 0)
        if mode == NEVER:
            return None
        if node["type"] != REROUTE and mode != BYPASS:
            return link
        wanted = node["outputs"][link[1]]["type"]
        passing = (s for s in node.get("inputs", []) if node["type"] == REROUTE or s["type"] == wanted)
        link = links.get(next((s.get("link") for s in passing), None))
    return None
