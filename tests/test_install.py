"""What an installation consists of: the archive, the requirements, and code that runs where people are."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = [line for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines() if line]
MEGABYTE = 1_000_000
CODE = ("app", "demo", "nodes", "pose_align", "unianimate_core", "video_core", "xdyna_core")
OTHER_FOLDERS = ("docs", "locales", "web", "workflows")
OTHER_FILES = (
    "LICENSE", "README.md", "__init__.py", "__main__.py", "pyproject.toml", "requirements-mediapipe.txt",
    "requirements.txt",
)  # fmt: skip

NEVER_INSTALLED = {"torch", "torchvision", "torchaudio", "torchsde"}
"""ComfyUI's own, which the Manager does not touch."""

COMFYUI = (
    "numpy", "einops", "transformers", "tokenizers", "sentencepiece", "safetensors", "aiohttp", "yarl", "pyyaml",
    "pillow", "scipy", "tqdm", "psutil", "alembic", "sqlalchemy", "av", "kornia", "spandrel", "pydantic",
    "pydantic-settings", "huggingface-hub", "filelock", "requests", "torch", "torchvision", "torchaudio", "torchsde",
)  # fmt: skip
"""What ComfyUI 0.3.64 and 0.33.0 require, and what that brings along and packs like to change."""

POSIX_MODULES = {
    "fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "posix", "syslog", "readline", "curses", "crypt",
    "spwd",
}  # fmt: skip
POSIX_NAMES = {
    "os": {
        "fork", "forkpty", "getuid", "geteuid", "getgid", "getegid", "setuid", "setgid", "setsid", "getpgid", "killpg",
        "nice", "getloadavg", "uname", "chown", "lchown", "chroot", "mkfifo", "mknod", "statvfs", "fchmod", "fchown",
        "sched_getaffinity", "sched_setaffinity", "sysconf", "confstr", "wait", "waitid", "pread", "pwrite",
        "posix_fadvise", "posix_fallocate", "sync", "O_NOFOLLOW", "O_DIRECTORY", "O_CLOEXEC", "O_NONBLOCK", "O_SYNC",
        "O_DSYNC", "WNOHANG", "WEXITSTATUS",
    },
    "signal": {
        "SIGKILL", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGCHLD", "SIGPIPE", "alarm", "setitimer",
        "pause", "pthread_kill",
    },
    "time": {"tzset", "clock_settime"},
    "socket": {"AF_UNIX", "socketpair"},
}  # fmt: skip
"""Names that Windows' Python does not have."""

OPENS_PATHS_IN_C = {
    "imread",
    "imwrite",
    "imreadmulti",
    "imwritemulti",
    "VideoCapture",
    "VideoWriter",
    "FileStorage",
}
"""Of OpenCV: on Windows they take a path in the system's code page and fail, silently, on any other letter."""


def git(*words: str) -> list[str]:
    """What git lists, separated by zeros; skips where this is no checkout."""
    try:
        done = subprocess.run(
            ["git", *words], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
        )
    except OSError as error:
        pytest.skip(f"git cannot be run: {error}")
    if done.returncode:
        pytest.skip(f"this is no git checkout: {done.stderr.strip()}")
    return [name for name in done.stdout.split("\0") if name]


@pytest.fixture(scope="module")
def left_out() -> set[str]:
    """Tracked files that .comfyignore names, by git's own reading of such rules."""
    return set(git("ls-files", "-z", "--cached", "--ignored", "--exclude-from=.comfyignore"))


@pytest.fixture(scope="module")
def archive(left_out) -> list[str]:
    """What `comfy node pack` puts into the archive: the other tracked files."""
    return [name for name in git("ls-files", "-z") if name not in left_out and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def modules() -> list[tuple[str, ast.Module]]:
    """(path, syntax tree as of Python 3.10) of everything that is not a test."""
    files = [*ROOT.glob("*.py"), *(file for folder in CODE for file in (ROOT / folder).rglob("*.py"))]
    parsed = (ast.parse(file.read_text(encoding="utf-8"), feature_version=(3, 10)) for file in files)
    return [(file.relative_to(ROOT).as_posix(), tree) for file, tree in zip(files, parsed, strict=True)]


# ---- the archive ---------------------------------------------------------------------------------------


def test_the_archive_holds_what_users_need_and_nothing_else(archive):
    folders = {name.split("/")[0] if "/" in name else name for name in archive}
    assert folders == {*CODE, *OTHER_FOLDERS, *OTHER_FILES}
    parts = {part.lower() for name in archive for part in name.split("/")}
    assert not parts & {"tests", "benchmarks", "golden", ".ci", "train.py", "training.py", "__pycache__"}
    suffixes = {Path(name).suffix for name in archive}
    assert suffixes <= {
        "", ".py", ".md", ".txt", ".toml", ".json", ".jpg", ".webp", ".png", ".mp4", ".npz", ".safetensors", ".js",
    }  # fmt: skip


def test_nothing_in_the_archive_needs_what_was_left_out(modules, left_out):
    """Also inside functions: a name that is not there would be found by users only."""
    for path, tree in ((path, tree) for path, tree in modules if path not in left_out):
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level:
                base = Path(path).parents[node.level - 1] / (node.module or "").replace(".", "/")
                for name in [base, *(base / alias.name for alias in node.names)]:
                    assert name.with_suffix(".py").as_posix() not in left_out, f"{path} imports {name}"


def test_the_archive_is_small_without_the_embedded_weights(archive):
    sizes = {name: (ROOT / name).stat().st_size for name in archive}
    weights = sum(size for name, size in sizes.items() if name.startswith("demo/weights/"))
    assert sum(sizes.values()) - weights < 10 * MEGABYTE
    assert not [
        name for name, size in sizes.items() if size > 3 * MEGABYTE and not name.startswith("demo/weights/")
    ]


def test_names_in_the_archive_are_possible_everywhere(archive):
    assert len({name.casefold() for name in archive}) == len(archive)
    for name in archive:
        assert len(name) < 120 and re.fullmatch(r"[\w./-]+", name, re.ASCII), name


# ---- requirements --------------------------------------------------------------------------------------


def names_of(lines: list[str]) -> set[str]:
    return {canonical(re.match(r"[\w.-]+", line)[0]) for line in lines}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_requirements_ask_for_no_versions_and_not_for_torch():
    for line in REQUIREMENTS:
        assert re.fullmatch(r'[a-z-]+(;platform_system[!=]="Darwin")?', line), (
            f"{line}: a name and a marker at most"
        )
    assert not names_of(REQUIREMENTS) & NEVER_INSTALLED


def test_the_registry_shows_the_same_requirements():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.search(r"^dependencies = (\[.*?^\])", text, re.MULTILINE | re.DOTALL)[1]
    assert ast.literal_eval(listed) == REQUIREMENTS


def test_there_is_no_install_script():
    assert not [
        name for name in ("install.py", "prestartup_script.py", "uninstall.py") if (ROOT / name).exists()
    ]


@pytest.mark.slow
def test_requirements_fit_the_versions_that_comfyui_has(tmp_path):
    """pip finds versions of all requirements with every package of ComfyUI's own exactly as it is here."""
    held = {}
    for name in COMFYUI:
        try:
            held[canonical(name)] = metadata.version(name).split("+")[0]
        except metadata.PackageNotFoundError:
            continue
    constraints, report = tmp_path / "constraints.txt", tmp_path / "report.json"
    lines = (f"{name}=={version}\n" for name, version in held.items() if name not in NEVER_INSTALLED)
    constraints.write_text("".join(lines), encoding="utf-8")
    command = [
        sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed",
        "--report", str(report), "-r", str(ROOT / "requirements.txt"), "-c", str(constraints),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=900)
    offline = (
        "No module named pip",
        "Failed to establish a new connection",
        "getaddrinfo",
        "Network is unreachable",
    )
    if done.returncode and any(word in done.stderr for word in offline):
        pytest.skip(f"pip reaches no index: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    resolved = {
        canonical(entry["metadata"]["name"]): entry["metadata"]["version"].split("+")[0]
        for entry in json.loads(report.read_text(encoding="utf-8"))["install"]
    }
    assert not set(resolved) & NEVER_INSTALLED, "nothing brings a torch of its own"
    changed = {
        name: (held[name], found) for name, found in resolved.items() if held.get(name, found) != found
    }
    assert not changed and len(set(resolved) & set(held)) >= 5


# ---- code ----------------------------------------------------------------------------------------------


def test_the_linter_holds_the_code_to_the_oldest_python():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'target-version = "py310"' in text and 'requires-python = ">=3.10"' in text


def test_every_module_is_python_3_10(modules):
    assert len(modules) > 80


def test_nothing_that_only_posix_has_is_imported_or_called(modules):
    wrong = [f"{path}:{line} {what}" for path, tree in modules for line, what in posix_only(tree)]
    assert not wrong


def posix_only(tree: ast.Module) -> Iterator[tuple[int, str]]:
    tried = {part for node in ast.walk(tree) if does_without(node) for part in node.body}
    for node in ast.walk(tree):
        if node in tried:
            continue
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names if alias.name.split(".")[0] in POSIX_MODULES]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            module = node.module or ""
            whole = [module] if module.split(".")[0] in POSIX_MODULES else []
            found = whole + [a.name for a in node.names if a.name in POSIX_NAMES.get(module, ())]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found = [node.attr] if node.attr in POSIX_NAMES.get(node.value.id, ()) else []
        else:
            continue
        yield from ((node.lineno, what) for what in found)


def does_without(node: ast.AST) -> bool:
    """A ``try`` that goes on where an import fails."""
    return isinstance(node, ast.Try) and any(
        isinstance(handler.type, ast.Name) and handler.type.id == "ImportError" for handler in node.handlers
    )


def test_a_module_that_is_tried_for_is_not_missed():
    trying = "try:\n    import fcntl\nexcept {}:\n    fcntl = None"
    assert not list(posix_only(ast.parse(trying.format("ImportError"))))
    assert list(posix_only(ast.parse(trying.format("ValueError"))))


@pytest.mark.parametrize(
    "code", ["import fcntl", "from os import fork", "import os\nos.getuid()", "import signal\nsignal.SIGKILL"]
)
def test_the_check_for_posix_finds_it(code):
    assert list(posix_only(ast.parse(code)))


def test_opencv_never_gets_a_path(modules):
    """Pictures go through PIL or imdecode, videos through PyAV: these take any letter on any system."""
    wrong = [
        f"{path}:{node.lineno} {node.attr}"
        for path, tree in modules
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in OPENS_PATHS_IN_C
    ]
    assert not wrong


def test_text_files_are_read_and_written_in_a_named_encoding(modules):
    """Windows' default is not UTF-8, and file names in JSON would come back as other letters."""
    calls = {"read_text": 0, "write_text": 1}
    wrong = []
    for path, tree in modules:
        for node in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            name = getattr(node.func, "attr", "")
            named = any(keyword.arg == "encoding" for keyword in node.keywords)
            if name in calls and not named and len(node.args) <= calls[name]:
                wrong.append(f"{path}:{node.lineno} {name}")
            if name == "open" and not named and getattr(node.func.value, "id", "") not in ("av", "Image"):
                modes = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
                if any(isinstance(mode, str) and set(mode) <= set("rwax+t") and mode for mode in modes):
                    wrong.append(f"{path}:{node.lineno} open {modes}")
    assert not wrong
