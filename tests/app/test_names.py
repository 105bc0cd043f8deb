"""Names and paths as Windows sees them: reserved names, drives, backslashes, long paths."""

from __future__ import annotations

from pathlib import Path, PureWindowsPath

import pytest
from xdyna_unianimate.app import models, names
from xdyna_unianimate.app.animate import Source
from xdyna_unianimate.app.jobs import Job
from xdyna_unianimate.app.outputs import free_path
from xdyna_unianimate.app.state import key_of

REFUSED = {
    "con": "device", "clips/AUX.mp4": "device", r"clips\nul": "device", "com1.tar.gz": "device", "LPT9 .txt": "device",
    "CON .mp4": "device", "a<b": "holds", 'say "hi"': "holds", "what?": "holds", "a|b/c": "holds", "tab\there": "holds",
    "10:30": "holds", "clip./a": "ends", "clip ": "ends", "x" * 260: "260 characters",
    r"C:\clips\prn\a.mp4": "device", r"\\server\share\aux.mp4": "device",
}  # fmt: skip
TAKEN = (
    "clips/a.mp4", r"clips\sub\a.mp4", r"C:\Users\Zoë\été 模型\a.mp4", r"\\server\share\a.mp4",
    "console/comma1/auxiliary.png",
    "%year%-%width%x%height%", "../a", ".hidden", "x" * 259, "模型 été.safetensors", "a'b & (c) #1, 100%.mp4",
)  # fmt: skip


@pytest.mark.parametrize(("path", "reason"), REFUSED.items())
def test_what_windows_would_not_take_is_said_before_it_is_tried(path, reason):
    assert reason in names.windows_problem(path)
    with pytest.raises(ValueError, match="Choose another name"):
        names.check(path, windows=True)
    names.check(path, windows=False)


@pytest.mark.parametrize("path", TAKEN)
def test_what_windows_takes_is_not_refused(path):
    assert names.windows_problem(path) is None
    names.check(path, windows=True)


@pytest.mark.parametrize("prefix", [r"D:\clips\a", "C:a", r"\a", "/a", r"\\server\share\a"])
def test_a_save_prefix_has_neither_drive_nor_root(prefix):
    with pytest.raises(ValueError, match="leads out of the output folder"):
        names.check_prefix(prefix, windows=True)


@pytest.mark.parametrize("prefix", ["clips/a", r"clips\a", "模型 été/动作"])
def test_a_save_prefix_may_hold_folders_with_either_separator(prefix):
    names.check_prefix(prefix, windows=True)
    names.check_prefix(prefix, windows=False)


@pytest.mark.parametrize("home", [r"C:\Users\Zoë\模型", r"\\server\share"])
def test_what_we_name_ourselves_windows_takes_too(home, tmp_path):
    """Results, cache entries, parts of downloads: whatever the sources are called."""
    sources = ["con.png", "10:30 Uhr.mp4", "a" * 200 + ".mp4", "舞" * 90 + ".mp4", "clip..mp4", 'x"y|z?.png']
    for reference in sources:
        for driving in sources:
            stem = Job(Source(Path(reference), Path(driving)), {"seed": 3, "resolution": [512, 768]}).stem
            for name in (f"{stem}_unianimate.mp4", f"{stem}_xdyna.partial.mp4", f".{stem}.png.part.png"):
                assert names.windows_problem(str(PureWindowsPath(home) / "outputs" / name)) is None
                assert len(name.encode()) < 200
    for row in models.FILES:
        assert names.windows_problem(str(PureWindowsPath(home) / row.folder / f"{row.name}.part")) is None
    assert names.windows_problem(f"{key_of('x')}.npz") is None
    assert names.windows_problem(free_path(tmp_path, "a", ".mp4").name) is None


def test_long_names_are_cut_and_stay_apart():
    assert names.short("clip") == "clip"
    first, second = (names.short("舞" * 100 + end) for end in "ab")
    assert first != second and first.startswith("舞舞") and "\ufffd" not in first
    assert len(first.encode()) <= names.LONGEST_STEM
    assert Job(Source(Path("a.png"), Path("b.mp4"))).stem == "a_b"


@pytest.mark.parametrize(
    "name",
    [
        r"sub\yolox_l.onnx",
        r"C:\models\dwpose\YOLOX_L.onnx",
        r"\\server\models\yolox_l.onnx",
        "sub/yolox_l.onnx",
    ],
)
def test_a_model_file_is_known_whatever_stands_before_its_name(name):
    assert models.described(name).name == "yolox_l.onnx"
    assert PureWindowsPath(name).name.casefold() == "yolox_l.onnx"


@pytest.mark.parametrize(
    "name", [r"C:\x\a.onnx", "C:a.onnx", r"\\server\share\a.onnx", r"..\a.onnx", r"x\..\..\a.onnx"]
)
def test_no_windows_path_leads_out_of_a_models_folder(name, tmp_path):
    inside = tmp_path / "models"
    inside.mkdir()
    for place in (tmp_path / "a.onnx", inside / "a.onnx"):
        place.write_bytes(b"x")
    assert models.below(inside, name) is None


@pytest.mark.parametrize("name", ["a\0b", "a\nb", "a/\x1b[2J", "half \ud800"])
def test_unprintable_letters_are_in_no_prefix_of_any_system(name):
    with pytest.raises(ValueError, match="cannot be a file's name") as refused:
        names.check_prefix(name, windows=False)
    assert len(str(refused.value).splitlines()) == 1
