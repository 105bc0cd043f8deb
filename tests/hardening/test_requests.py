"""Every widget of every node at its extremes, with wrong types and with hostile names; what then is opened."""

from __future__ import annotations

import json
import math
import os
import re
import resource
import sys
import sysconfig
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ..fakes import comfy_host, workflow
from ..fakes.executor import NodeError, PromptError, is_link
from .processes import run_python, why_no_trace
from .tally import SENTENCES, Tally

FAMILY = "requests"

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
PATIENCE = 2.0
"""Seconds until a request that is allowed and large is cancelled, as its user would."""
MORE_MEMORY = 3 << 30
"""Bytes of addresses that a request may take besides; a workstation has them, this one shares."""
MANY = ("XDUA_UniAnimateSampler", "XDUA_XDynaSampler")

WRONG: tuple[Any, ...] = (
    None, "", "x", "9" * 400, True, -1, 2**63, 1e308, math.nan, math.inf, [], [1, 2, 3], {}, {"a": {}}, "\0", "\n",
)  # fmt: skip

NAMES = (
    "../escape", "../../../../escape", "a/../../escape", "..", ".", "", "/tmp/xdua-escape/x", "~/escape", "//host/x",
    "C:\\escape", "C:escape", "\\\\host\\share\\x", "..\\..\\escape", "CON", "nul.txt", "COM1", "aux/x", "a:b", "a*b",
    "link-out/x", "link-out/new/x", "link-out/x.json", "link-out/x.safetensors", "link-out",
    "naïve 模型 ☂", "n" * 300, "d/" * 150 + "x", "a\0b", "a\nb", "%date:yyyy%", "%width%/../../x",
    "file:///etc/hostname", "http://127.0.0.1:9/x", "-rf", "a ", "a.", "\ud800",
)  # fmt: skip
"""For whatever is a path, a name or the beginning of one; ``link-out`` is a link that leads out."""


class Sink:
    """An output node that takes anything, so that any node can be a prompt's last."""

    OUTPUT_NODE, FUNCTION, RETURN_TYPES = True, "take", ()

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {"required": {"value": ("*",)}}

    def take(self, value: Any) -> tuple:
        return ()


def behind_links(base: Path) -> Path:
    """A folder outside ComfyUI's, with files in it: through a link to nothing, nothing could be reached."""
    folder = base.parent / "xdua-escape"
    if not folder.exists():
        folder.mkdir()
        for name in ("x.json", "x.mp4", "x.onnx", "x.safetensors"):
            (folder / name).touch()
    return folder


def lead_out(comfy: comfy_host.Comfy) -> None:
    for folder in ("input", "output"):
        (comfy.base / folder / "link-out").symlink_to(behind_links(comfy.base))


@pytest.fixture(scope="module")
def comfy(tmp_path_factory) -> Iterator[comfy_host.Comfy]:
    with comfy_host.running(tmp_path_factory.mktemp("requests")) as host:
        host.core["XDUA_TestSink"] = Sink
        lead_out(host)
        yield host


def prompts(comfy: comfy_host.Comfy) -> dict[str, tuple[str, dict]]:
    """Class -> a node of it in the prompt of a shipped workflow, and that prompt, made small."""
    found: dict[str, tuple[str, dict]] = {}
    for file in WORKFLOWS:
        prompt = workflow.to_prompt(json.loads(file.read_text(encoding="utf-8")), comfy.classes)
        for node in prompt.values():
            for name, small in {"steps": 1, "frames": 3, "width": 128, "height": 192}.items():
                if name in node["inputs"] and not is_link(node["inputs"][name]):
                    node["inputs"][name] = small
        for number, node in prompt.items():
            found.setdefault(node["class_type"], (number, prompt))
    return found


def needed(prompt: dict, number: str, kept: dict | None = None) -> dict:
    """The node and all that it stands on."""
    kept = {} if kept is None else kept
    kept[number] = prompt[number]
    for value in prompt[number]["inputs"].values():
        if is_link(value) and value[0] not in kept:
            needed(prompt, value[0], kept)
    return kept


def ended(comfy: comfy_host.Comfy, prompt: dict, number: str) -> dict:
    """``prompt`` down to a node, which becomes its end."""
    part = json.loads(json.dumps(needed(prompt, number)))
    cls = comfy.classes[prompt[number]["class_type"]]
    if not getattr(cls, "OUTPUT_NODE", False):
        part["end"] = {"class_type": "XDUA_TestSink", "inputs": {"value": [number, 0]}}
    return part


def widgets(cls: type) -> dict[str, tuple]:
    """Name -> description of the inputs that a person sets."""
    types = cls.INPUT_TYPES()
    given = {**types.get("required", {}), **types.get("optional", {})}
    return {name: spec for name, spec in given.items() if isinstance(spec[0], list) or spec[0] in WIDGETS}


def is_name(name: str, spec: tuple) -> bool:
    return spec[0] in ("STRING", "COMBO") or isinstance(spec[0], list)


def extremes(spec: tuple) -> list[Any]:
    """What is allowed, at its ends, and one beyond each."""
    options = spec[1] if len(spec) > 1 else {}
    ends = [options[end] for end in ("min", "max") if end in options]
    beyond = [value + by for value, by in zip(ends, (-1, 1), strict=False)]
    return [*ends, *beyond, *(options.get("options") or (spec[0] if isinstance(spec[0], list) else ()))]


@contextmanager
def bounded() -> Iterator[None]:
    """Less memory than the machine has, and a press of cancel after a while."""
    from comfy import model_management

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MORE_MEMORY, hard))
    timer = threading.Timer(PATIENCE, model_management.interrupt_current_processing)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        model_management.interrupt_current_processing(False)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def ask(tally: Tally, executor: Any, case: str, prompt: dict, checked_only: bool = False) -> None:
    """One request: refused before it runs, or with a sentence, or cancelled; or it works."""
    from comfy.model_management import InterruptProcessingException
    from xdyna_unianimate.video_core.placement import out_of_memory

    try:
        if checked_only:
            if faults := executor.faults(prompt):
                raise PromptError("\n".join(faults))
        else:
            with bounded():
                executor.run(prompt)
    except PromptError:
        # ComfyUI's own, a line for each fault, at the nodes.
        tally._count("refused", 1)
    except NodeError as error:
        cause = error.__cause__
        if isinstance(cause, InterruptProcessingException):
            tally.worked()
        elif isinstance(cause, MemoryError) or out_of_memory(cause):
            # ComfyUI has a message for this, and unloads.
            tally._count("refused", 1)
        elif isinstance(cause, SENTENCES) or "outside the output folder" in str(cause):
            tally.refused(cause) if str(cause) else tally.lost(f"{case}: {cause!r}")
        else:
            tally.lost(f"{case}: {cause!r}")
    except Exception as error:
        tally.lost(f"{case}: outside the node: {error!r}")
    else:
        tally.worked()


def test_every_widget_takes_or_refuses_everything(tally, full, comfy):
    """Checked as the server does; those that pass are run, in the short version where that is quick."""
    found = prompts(comfy)
    seen = 0
    for kind, cls in sorted(comfy.pack.items()):
        number, prompt = found.get(kind, ("1", {"1": {"class_type": kind, "inputs": {}}}))
        executor = comfy.executor()
        linked = kind in found
        runs = linked and full
        base = ended(comfy, prompt, number)
        own = executor.run(json.loads(json.dumps(base))).outputs[number] if runs else ()
        upstream = dict(executor._kept)
        for name, spec in widgets(cls).items():
            everything = [*WRONG, *extremes(spec), *(NAMES if is_name(name, spec) else ())]
            for value in everything if full else everything[::6]:
                asked = json.loads(json.dumps(base))
                asked[number]["inputs"][name] = value
                executor._kept = dict(upstream)
                ask(tally, executor, f"{kind}.{name} = {value!r:.80}", asked, checked_only=not runs)
                seen += 1
            if runs:
                # The next prompt runs: the node itself once more, on what it stands on.
                executor._kept = {key: one for key, one in upstream.items() if one[0] is not own}
                assert number in executor.run(json.loads(json.dumps(base))).executed
    assert seen > 500


INSIDE = """
import os
from pathlib import Path
import numpy as np
from tests_package.fakes import comfy_host
from tests_package.hardening import test_requests as own
base = Path(sys.argv[1])
with comfy_host.running(base) as comfy:
    own.lead_out(comfy)
    own.hostile_names(comfy, report)
"""


def hostile_names(comfy: comfy_host.Comfy, report: Any, names: Sequence[str] = NAMES) -> None:
    """Every name to every node that takes one and works without networks; tells each outcome. For a process."""
    import torch
    from xdyna_unianimate.demo import inputs

    executor = comfy.executor()
    images = torch.zeros(1, 16, 16, 3)
    poses = inputs.driving_poses()[:1]
    for kind, cls in sorted(comfy.pack.items()):
        for name, spec in widgets(cls).items():
            # The estimate's choices of text are no names of files, and each is ten seconds of counting.
            if not is_name(name, spec) or kind == "XDUA_Estimate":
                continue
            for value in names:
                given = {key: one[1].get("default") for key, one in widgets(cls).items() if len(one) > 1}
                given |= {"images": images, "image": images, "poses": poses, "driving": poses, name: value}
                types = cls.INPUT_TYPES()
                wanted = {**types.get("required", {}), **types.get("optional", {})}
                if any(key not in given for key in types.get("required", {})):
                    continue
                values = {key: one for key, one in given.items() if key in wanted}
                from ..fakes import executor as module

                case = f"{kind}.{name} = {value!r:.60}"
                prompt = {"1": {"class_type": kind, "inputs": {}}}
                hidden = {"PROMPT": prompt, "EXTRA_PNGINFO": None, "UNIQUE_ID": "1", "DYNPROMPT": None}
                try:
                    executor._fingerprint(cls, values)
                    module._call(cls, values, hidden)
                except Exception as error:
                    text = str(error)
                    kinds = isinstance(error, SENTENCES) or "outside the output folder" in text
                    report(case=case, said=text, fine=kinds)
                else:
                    report(case=case, said="", fine=True)


READ_ANYWHERE = ("/usr", "/lib", "/etc", "/proc", "/sys", "/dev", "/opt", "/bin")


def of_this_python() -> set[str]:
    """Where Python, what is installed in it, our package and the tests lie; links and what they stand for."""
    import xdyna_unianimate

    places = [sys.prefix, sys.base_prefix, *sysconfig.get_paths().values(), *xdyna_unianimate.__path__, ROOT]
    return {str(form) for place in map(Path, places) for form in (place, place.resolve())}


def test_hostile_names_are_refused_or_stay_inside(tally, full, comfy):
    def report(case: str, said: str, fine: bool) -> None:
        if not fine:
            tally.lost(f"{case}: {said}")
        else:
            tally.refused(said) if said else tally.worked()

    before = {file for file in comfy.base.parent.rglob("*") if comfy.base not in file.parents}
    hostile_names(comfy, report, NAMES if full else ("../escape", "/tmp/xdua-escape/x", "link-out/new/x"))
    assert {file for file in comfy.base.parent.rglob("*") if comfy.base not in file.parents} == before


@pytest.mark.full
def test_hostile_names_open_nothing_outside(tally, tmp_path):
    """In a process of its own; from the first name on, what was opened is within ComfyUI's folders."""
    if why_no_trace():
        pytest.skip(why_no_trace())
    base = tmp_path / "comfy"
    (base / "temp").mkdir(parents=True)
    behind_links(base)
    package = __name__.rpartition(".hardening")[0]
    folder = ROOT / "tests"
    script = f"""
import importlib.util, types
name = {package!r}
for part, place in ((name, {str(folder)!r}), (name + ".hardening", {str(folder / "hardening")!r}),
                    (name + ".fakes", {str(folder / "fakes")!r})):
    module = types.ModuleType(part)
    module.__path__ = [place]
    sys.modules[part] = module
""" + INSIDE.replace("tests_package", package)
    done = run_python(
        script, str(base), trace=("open", "openat", "connect", "rename", "mkdir", "unlink"), folder=tmp_path,
        environment={"XDUA_CACHE": str(tmp_path / "cache"), "TMPDIR": str(base / "temp")},
    )  # fmt: skip
    assert done.code == 0, done.text[-3000:]
    assert len(done.reports) >= len(NAMES), done.text[-2000:]
    for told in done.reports:
        if not told["fine"]:
            tally.lost(f"{told['case']}: {told['said']}")
        elif told["said"]:
            tally.refused(told["said"])
        else:
            tally.worked()
    begin = next(i for i, line in enumerate(done.trace) if "xdua-link" in line or "/comfy/output" in line)
    allowed = tuple(str(place) for place in (base, tmp_path / "cache"))
    own = of_this_python()
    for line in done.trace[begin:]:
        if "connect(" in line and "AF_INET" in line:
            tally.lost(f"connects: {line}")
        match = re.search(r'(open|openat|mkdir|rename|unlink)\((?:AT_FDCWD, )?"((?:[^"\\]|\\.)*)"(.*)', line)
        if match is None or " = -1 " in line:
            continue
        path, rest = (
            match[2].encode().decode("unicode_escape").encode("latin-1").decode(errors="replace"),
            match[3],
        )
        path = os.path.normpath(path if path.startswith("/") else f"{tmp_path}/{path}")
        writes = (
            match[1] != "open" and match[1] != "openat" or bool(re.search("O_WRONLY|O_RDWR|O_CREAT", rest))
        )
        if path.startswith(allowed) and "/link-out/" not in path:
            continue
        if writes and path not in ("/dev/null",) or "escape" in path or "hostname" in path:
            tally.lost(f"opened: {line[:200]}")
        elif path == str(tmp_path) and "O_DIRECTORY" in rest:
            # Where Python looks for installed packages, among others.
            continue
        elif not path.startswith((*READ_ANYWHERE, *own)):
            tally.lost(f"read: {line[:200]}")
    tally.worked()
