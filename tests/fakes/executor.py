"""A small graph executor: an API prompt is checked and run in order; unchanged nodes are not run again.

Works on classic and V3 node classes, on the stand-ins' as on the real program's.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

log = logging.getLogger(__name__)

Prompt = dict[str, dict[str, Any]]

CASTS = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}
DYNAMIC_COMBO = "COMFY_DYNAMICCOMBO_V3"
"""A list of newer versions whose entries bring inputs of their own; a plain text is such an entry too."""


class PromptError(ValueError):
    """A prompt that ComfyUI would refuse: what is wrong, one line per fault."""


class NodeError(RuntimeError):
    """A node that raised; the exception is its ``__cause__``."""

    def __init__(self, node_id: str, class_type: str, error: BaseException) -> None:
        super().__init__(f"node {node_id} ({class_type}): {type(error).__name__}: {error}")
        self.node_id = node_id


@dataclass
class Run:
    """What one run did.

    outputs:  node id -> values of its outputs, in order.
    ui:       node id -> what the node showed.
    executed: node ids in the order they ran; those taken from the last run are not among them.
    """

    outputs: dict[str, tuple] = field(default_factory=dict)
    ui: dict[str, dict] = field(default_factory=dict)
    executed: list[str] = field(default_factory=list)


class Executor:
    """Runs prompts one after the other and keeps the outputs of nodes that did not change."""

    def __init__(self, classes: Mapping[str, type]) -> None:
        self.classes = classes
        self._kept: dict[str, tuple[tuple, dict]] = {}

    def run(self, prompt: Prompt, extra_pnginfo: dict | None = None) -> Run:
        """Every output node and what it needs, in dependency order."""
        faults = self.faults(prompt)
        if faults:
            raise PromptError("\n".join(faults))
        run, signatures = Run(), {}
        for node_id in self._order(prompt):
            signature = self._signature(prompt, node_id, signatures)
            kept = self._kept.get(signature)
            if kept is None:
                kept = self._execute(prompt, node_id, run, extra_pnginfo)
                run.executed.append(node_id)
            run.outputs[node_id], run.ui[node_id] = kept
            self._kept[signature] = kept
        # As core's classic cache: what the last prompt did not use is dropped.
        self._kept = {key: self._kept[key] for key in signatures.values()}
        return run

    def faults(self, prompt: Prompt) -> list[str]:
        """What ComfyUI's validation would say, and lists that 0.3.64 leaves unchecked."""
        found = []
        for node_id, node in prompt.items():
            if node["class_type"] not in self.classes:
                found.append(f"node {node_id}: there is no node {node['class_type']}")
                continue
            found += [
                f"node {node_id} ({node['class_type']}): {fault}"
                for fault in self._input_faults(prompt, node)
            ]
        if not found and not any(
            getattr(self.classes[n["class_type"]], "OUTPUT_NODE", False) for n in prompt.values()
        ):
            found.append("the prompt has no output node")
        return found

    def _input_faults(self, prompt: Prompt, node: dict) -> list[str]:
        cls = self.classes[node["class_type"]]
        types = cls.INPUT_TYPES()
        own_checks = _parameters(_hook(cls, "validate_inputs", "VALIDATE_INPUTS"))
        found = [
            f"input {name} is missing" for name in types.get("required", {}) if name not in node["inputs"]
        ]
        for name, value in node["inputs"].items():
            spec = types.get("required", {}).get(name) or types.get("optional", {}).get(name)
            if spec is None:
                continue
            if is_link(value):
                found += self._link_faults(prompt, name, value, spec[0])
            elif name not in own_checks:
                found += _value_faults(name, node["inputs"], spec)
        return found + ([] if found else self._own_faults(cls, node))

    def _link_faults(self, prompt: Prompt, name: str, link: list, wanted: str) -> list[str]:
        source, slot = link
        if source not in prompt:
            return [f"input {name} comes from node {source}, which does not exist"]
        giver = self.classes.get(prompt[source]["class_type"])
        if giver is None:
            return []  # reported with that node
        given = giver.RETURN_TYPES
        if slot >= len(given):
            return [f"input {name} comes from output {slot} of node {source}, which has {len(given)}"]
        fits = "*" in (given[slot], wanted) or set(str(given[slot]).split(",")) & set(str(wanted).split(","))
        return [] if fits else [f"input {name} wants {wanted} and gets {given[slot]}"]

    def _own_faults(self, cls: type, node: dict) -> list[str]:
        check = _hook(cls, "validate_inputs", "VALIDATE_INPUTS")
        if check is None:
            return []
        wanted = _parameters(check)
        values = {name: value for name, value in node["inputs"].items() if name in wanted}
        answer = check(**{name: None if is_link(value) else value for name, value in values.items()})
        return [] if answer is True else [str(answer)]

    def _order(self, prompt: Prompt) -> list[str]:
        order: list[str] = []

        def visit(node_id: str, above: tuple[str, ...]) -> None:
            if node_id in above:
                raise PromptError(f"the graph goes in a circle at node {node_id}")
            for value in prompt[node_id]["inputs"].values():
                if is_link(value):
                    visit(value[0], (*above, node_id))
            if node_id not in order:
                order.append(node_id)

        for node_id, node in prompt.items():
            if getattr(self.classes[node["class_type"]], "OUTPUT_NODE", False):
                visit(node_id, ())
        return order

    def _signature(self, prompt: Prompt, node_id: str, known: dict[str, str]) -> str:
        """Class, inputs, fingerprint and the signatures of everything upstream, as core's cache key."""
        node = prompt[node_id]
        constants = {name: value for name, value in node["inputs"].items() if not is_link(value)}
        links = {name: [known[v[0]], v[1]] for name, v in node["inputs"].items() if is_link(v)}
        fingerprint = self._fingerprint(self.classes[node["class_type"]], node["inputs"])
        if isinstance(fingerprint, float) and math.isnan(fingerprint):
            fingerprint = f"never the same: {id(object())} {len(self._kept)}"
        known[node_id] = json.dumps([node["class_type"], constants, links, str(fingerprint)], sort_keys=True)
        return known[node_id]

    def _fingerprint(self, cls: type, inputs: dict) -> Any:
        """What the hook gives for all inputs, links as None; as in core, one that fails never matches."""
        hook = _hook(cls, "fingerprint_inputs", "IS_CHANGED")
        if hook is None:
            return None
        try:
            return hook(**{name: None if is_link(value) else value for name, value in inputs.items()})
        except Exception as error:
            log.warning("%s: %s", cls.__name__, error)
            return float("nan")

    def _execute(
        self, prompt: Prompt, node_id: str, run: Run, extra_pnginfo: dict | None
    ) -> tuple[tuple, dict]:
        node = prompt[node_id]
        cls = self.classes[node["class_type"]]
        values = {
            name: run.outputs[value[0]][value[1]] if is_link(value) else value
            for name, value in node["inputs"].items()
        }
        hidden = {"PROMPT": prompt, "EXTRA_PNGINFO": extra_pnginfo, "UNIQUE_ID": node_id, "DYNPROMPT": None}
        try:
            with torch.inference_mode():
                returned = _call(cls, values, hidden)
        except BaseException as error:
            raise NodeError(node_id, node["class_type"], error) from error
        return _unpack(returned)


def is_link(value: Any) -> bool:
    """[node id, output number]."""
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)


def downstream(prompt: Prompt, node_id: str) -> set[str]:
    """The nodes that depend on one, itself among them."""
    found: set[str] = set()
    users = {node_id}
    while users - found:
        found |= users
        users = {
            user
            for user, node in prompt.items()
            if any(is_link(value) and value[0] in found for value in node["inputs"].values())
        }
    return found


def set_widgets(prompt: Prompt, **values: Any) -> Prompt:
    """The same prompt, changed: these widgets have these values on every node that has them."""
    for node in prompt.values():
        widgets = {name for name, value in node["inputs"].items() if not is_link(value)}
        node["inputs"] |= {name: value for name, value in values.items() if name in widgets}
    return prompt


def load_pack(entrypoint: Any) -> dict[str, type]:
    """What ComfyUI does with a pack's ``comfy_entrypoint``: {node id: class}."""

    async def nodes() -> list[type]:
        extension = await entrypoint()
        return await extension.get_node_list()

    return {node.GET_SCHEMA().node_id: node for node in asyncio.run(nodes())}


def _call(cls: type, values: dict, hidden: dict) -> Any:
    if not hasattr(cls, "PREPARE_CLASS_CLONE"):
        wanted = {name: hidden[kind] for name, kind in cls.INPUT_TYPES().get("hidden", {}).items()}
        return getattr(cls(), cls.FUNCTION)(**values, **wanted)
    declared = cls.GET_SCHEMA().hidden or []
    given = {key: hidden[key.value] for key in declared if key.value in hidden}
    newer = "v3_data" in inspect.signature(cls.PREPARE_CLASS_CLONE).parameters
    clone = cls.PREPARE_CLASS_CLONE({"hidden_inputs": given} if newer else given)
    before = set(vars(clone)), dict(vars(cls))
    returned = clone.EXECUTE_NORMALIZED(**values)
    if inspect.isawaitable(returned):
        returned = asyncio.run(returned)
    if (set(vars(clone)), dict(vars(cls))) != before:
        raise AttributeError(f"{cls.__name__} kept state on its class, which ComfyUI locks")
    return returned


def _unpack(returned: Any) -> tuple[tuple, dict]:
    if isinstance(returned, dict):
        return tuple(returned.get("result", ())), dict(returned.get("ui", {}))
    if isinstance(returned, tuple):
        return returned, {}
    shown = returned.ui.as_dict() if hasattr(returned.ui, "as_dict") else returned.ui
    return tuple(returned.result or ()), dict(shown or {})


def _hook(cls: type, modern: str, classic: str) -> Any:
    """The node's own override of an optional class method, under its V3 or its classic name."""
    if not hasattr(cls, "PREPARE_CLASS_CLONE"):
        return getattr(cls, classic, None)
    owner = next((c for c in cls.__mro__ if modern in vars(c)), None)
    return None if owner is None or owner.__module__.startswith("comfy_api") else getattr(cls, modern)


def _parameters(hook: Any) -> list[str]:
    return list(inspect.signature(hook).parameters) if hook else []


def _value_faults(name: str, inputs: dict, spec: tuple) -> list[str]:
    kind, options = spec[0], (spec[1] if len(spec) > 1 else {})
    choices = kind if isinstance(kind, list) else options.get("options") if kind == "COMBO" else None
    value = inputs[name]
    if kind == DYNAMIC_COMBO:
        inputs[name] = value if isinstance(value, dict) else {name: value}
        return []
    if choices is not None:
        return [] if value in choices else [f"input {name}: {value!r} is not in {choices}"]
    if kind not in CASTS:
        return [f"input {name} wants a link of type {kind}"]
    try:
        inputs[name] = value = CASTS[kind](value)
    except (ValueError, TypeError, OverflowError) as error:
        return [f"input {name}: {value!r} is no {kind}: {error}"]
    if "min" in options and value < options["min"]:
        return [f"input {name}: {value} is smaller than {options['min']}"]
    if "max" in options and value > options["max"]:
        return [f"input {name}: {value} is bigger than {options['max']}"]
    return []
