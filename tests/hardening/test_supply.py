"""What the pack stands on: declared exactly as it is imported, described in the README, never on the network."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from xdyna_unianimate.demo import inputs
from xdyna_unianimate.video_core.video import open_video, write_video

from .processes import run_python, why_no_trace

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

FAMILY = "supply"

ROOT = Path(__file__).resolve().parents[2]
CODE = ("app", "demo", "nodes", "pose_align", "unianimate_core", "video_core", "xdyna_core")
COMFYUI = {"comfy", "comfy_api", "comfyui_version", "folder_paths", "latent_preview"}
DISTRIBUTIONS = {
    "PIL": {"pillow"}, "cv2": {"opencv-python"}, "yaml": {"pyyaml"}, "skimage": {"scikit-image"},
    "onnxruntime": {"onnxruntime", "onnxruntime-gpu"}, "importlinter": {"import-linter"}, "tomli": set(),
}  # fmt: skip
"""Where the import's name is another; tomli is Python's own from 3.11 on."""
COMMANDS = {"ruff", "pytest-xdist"}
"""Declared for tests, and run rather than imported."""
HEADING = "## Appendix: dependencies"


@cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def imports(files: Iterator[Path]) -> dict[str, set[str]]:
    """Package that is neither Python's nor ours -> the files that import it, wherever in them."""
    found: dict[str, set[str]] = {}
    for file in files:
        for node in ast.walk(parsed(file)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                called = getattr(node.func, "attr", getattr(node.func, "id", ""))
                if called in ("import_module", "importorskip", "__import__"):
                    names = [str(node.args[0].value)]
            for package in {name.split(".")[0] for name in names}:
                if package and package not in {*sys.stdlib_module_names, "xdyna_unianimate"}:
                    found.setdefault(package, set()).add(file.relative_to(ROOT).as_posix())
    return found


def code() -> Iterator[Path]:
    yield from (ROOT / name for name in ("__init__.py", "__main__.py"))
    for folder in CODE:
        yield from (ROOT / folder).rglob("*.py")


@cache
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def names(lines: list[str]) -> set[str]:
    """Names of requirements, our own extras left out."""
    found = {re.split(r"[\[;<>=!~ ]", line.strip())[0].lower() for line in lines if line and line[0] != "#"}
    return found - {"xdyna-unianimate"}


def distributions(packages: set[str]) -> set[str]:
    return set().union(*(DISTRIBUTIONS.get(package, {package.lower()}) for package in packages))


def test_what_is_imported_is_what_is_declared(tally):
    extras = project()["optional-dependencies"]
    declared = names(project()["dependencies"])
    asked = names((ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines())
    mediapipe = names((ROOT / "requirements-mediapipe.txt").read_text(encoding="utf-8").splitlines())
    assert asked == declared
    assert "mediapipe" in mediapipe
    for extra in ("cli", "download", "quality"):
        declared |= names(extras[extra])
    used = imports(code())
    imported = distributions(set(used) - COMFYUI)
    for name in sorted(imported | declared):
        if name in imported & (declared | {"mediapipe"}):
            tally.worked()
        else:
            tally.lost(
                f"{name} is {'imported and not declared' if name in imported else 'declared for nothing'}"
            )


def test_what_tests_import_is_what_they_declare(tally):
    folders = ("tests",)
    files = [file for folder in folders for file in (ROOT / folder).rglob("*.py")]
    own = {file.stem for file in files}
    used = set(imports(iter(files))) - COMFYUI - own - {"comfy_extras", "nodes"}
    extras = project()["optional-dependencies"]
    declared = names(extras["test"])
    everything = declared.union(names(project()["dependencies"]), *(names(extras[key]) for key in extras))
    for name in sorted(distributions(used)):
        tally.worked() if name in everything | {"mediapipe"} else tally.lost(f"{name} is not declared")
    for name in sorted(declared - COMMANDS):
        tally.worked() if name in distributions(used) else tally.lost(f"{name} is declared for nothing")


def rows() -> dict[str, list[str]]:
    """Name -> cells of the README's table."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition(HEADING)[2].partition("\n## ")[0]
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line[:2] == "| "
    ]
    return {name: row for row in cells[1:] for name in re.findall(r"`([^`]+)`", row[0])}


def licence(name: str) -> str:
    """What the installed package says of itself, in one line."""
    told = metadata.metadata(name)
    classifiers = [c for c in told.get_all("Classifier") or [] if c.startswith("License ::")]
    return told.get("License-Expression") or " ".join([*classifiers, (told.get("License") or "")[:200]])


def test_every_dependency_stands_in_the_readme_with_its_licence(tally):
    extras = project()["optional-dependencies"]
    declared = names(project()["dependencies"]).union(*(names(lines) for lines in extras.values())) | {
        "mediapipe"
    }
    table = rows()
    assert set(table) == declared
    short = {
        "MIT": "mit",
        "Apache-2.0": "apache",
        "BSD-3-Clause": "bsd",
        "BSD-2-Clause": "bsd",
        "MPL-2.0": "mpl",
    }
    for name, (_, use, given, upkeep) in table.items():
        assert use and upkeep
        try:
            said = licence(name).lower()
        except metadata.PackageNotFoundError:
            continue
        named = [word for key, word in short.items() if key in given]
        if named and any(word in said for word in named):
            tally.worked()
        else:
            tally.lost(f"the table says {given} of {name}, whose package says {said}")


# ---- nothing of the network ------------------------------------------------------------------------------


def test_pyav_is_given_open_files_alone(tally, tmp_path, monkeypatch):
    import av

    opened, real = [], av.open

    def watching(file, *args, **options):
        opened.append((file, args, options))
        return real(file, *args, **options)

    monkeypatch.setattr(av, "open", watching)
    frames = list(open_video(inputs.DRIVING).frames(max_frames=2))
    for name in ("a.mp4", "a.webm", "a.gif", "a.webp"):
        path = write_video(frames, tmp_path / name, 8).path
        if path.suffix in (".mp4", ".webm"):
            list(open_video(path).frames())
    assert len(opened) > 6
    for file, args, options in opened:
        reads = "w" not in (*args, options.get("mode"))
        closed = not reads or options.get("options", {}).get("protocol_whitelist") in ("none", "file")
        if isinstance(file, (str, Path)) or not closed:
            tally.lost(f"av.open({file!r}, {args}, {options})")
        else:
            tally.worked()
    calls = [
        (file.name, ast.unparse(node.args[0]))
        for file in code()
        for node in ast.walk(parsed(file))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("av.open", "av.container.open")
    ]
    assert sorted(calls) == [("decode.py", "file"), ("encode.py", "self._handle")]


def test_lists_of_other_files_are_not_followed(tally, tmp_path):
    lists = {
        "a.mp4": f"ffconcat version 1.0\nfile '{inputs.DRIVING}'\n",
        "b.mp4": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{inputs.DRIVING}\n#EXT-X-ENDLIST\n",
        "c.mp4": "#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n",
    }
    for name, text in lists.items():
        (tmp_path / name).write_text(text)
        with tally.trying(name, names=name, must_refuse=True):
            list(open_video(tmp_path / name).frames())


def empty_network() -> tuple[list[str], str]:
    """The words before a command that give it a network of nothing; why there are none."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return [], "unshare is not installed"
    for words in (["-rn"], ["-n"]):
        done = subprocess.run([unshare, *words, "true"], capture_output=True, text=True)
        if done.returncode == 0:
            return [unshare, *words], ""
    return [], f"no network namespace can be made here: {done.stderr.strip()}"


SMALL = (
    "animate", "--reference", str(inputs.REFERENCE), "--reference-pose", str(inputs.REFERENCE_POSE), "--driving",
    str(inputs.DRIVING_POSES), "--weights", "demo", "--detector", "demo", "--resolution", "32x64", "--no-resume",
)  # fmt: skip
"""In the short version, without a network alone; the full one runs the demo itself, of both systems, in both ways."""


def test_a_run_gives_the_same_frames_in_an_empty_network(tally, full, tmp_path):
    words, reason = empty_network()
    if reason:
        pytest.skip(reason)
    for system in ("unianimate", "xdyna") if full else ("unianimate",):
        pictures = []
        for name, before in (("with", []), ("without", words))[0 if full else 1 :]:
            target = tmp_path / f"{system}-{name}.mp4"
            command = [
                sys.executable,
                "-m",
                "xdyna_unianimate",
                *(["demo"] if full else SMALL),
                "--steps",
                "1",
            ]
            done = subprocess.run(
                [*before, *command, "--max-frames", "2", "--model", system, "-o", str(target)],
                env={**os.environ, "OMP_NUM_THREADS": "1", "XDUA_CACHE": str(tmp_path / name)},
                cwd=tmp_path, capture_output=True, text=True, timeout=300,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            pictures.append(np.stack(list(open_video(target).frames())))
        same = len(pictures[0]) == 2 and all(np.array_equal(pictures[0], other) for other in pictures[1:])
        tally.worked() if same else tally.lost(f"{system}: other frames without a network")


@pytest.mark.full
def test_the_demo_connects_to_nothing(tally, tmp_path):
    if why_no_trace():
        pytest.skip(why_no_trace())
    script = """
from xdyna_unianimate.app.cli import main
report(code=main(["demo", "--steps", "1", "--max-frames", "2", "-o", sys.argv[1]]))
"""
    done = run_python(script, str(tmp_path / "a.mp4"), trace=("connect", "sendto"), folder=tmp_path)
    assert done.reports == [{"code": 0}], done.text
    for line in done.trace:
        if "AF_INET" in line:
            tally.lost(line)
    tally.worked()
