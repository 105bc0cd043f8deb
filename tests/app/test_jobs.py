"""Job lists in every known form, and the ledger by which a list goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from xdyna_unianimate.app.animate import Source
from xdyna_unianimate.app.jobs import LARGEST, LEDGER, Job, Ledger, key_of_job, read_jobs


def written(folder: Path, content: object, name: str = "jobs.json") -> Path:
    file = folder / name
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return file


def test_own_entries_carry_settings(tmp_path: Path) -> None:
    entry = {"reference": "a.png", "driving": "/b.mp4", "seed": 3, "face": True, "face_video": "c.mp4"}
    [job] = read_jobs(written(tmp_path, [entry]))
    source = Source(tmp_path / "a.png", Path("/b.mp4"), face=tmp_path / "c.mp4")
    assert job == Job(source, {"seed": 3, "face": True})


def test_unianimates_test_list(tmp_path: Path) -> None:
    """UniAnimate spec 1: test_list_path holds [frame_interval, reference, folder of poses]."""
    [job] = read_jobs(
        written(tmp_path, "- [2, data/images/a.jpg, data/saved_pose/a]\n", "UniAnimate_infer.yaml")
    )
    source = Source(tmp_path / "data/images/a.jpg", tmp_path / "data/saved_pose/a")
    assert job == Job(source, {"frame_interval": 2})


def test_the_whole_published_yaml_is_a_list_too(tmp_path: Path) -> None:
    text = "seed: 11\ntest_list_path: [\n  [2, a.jpg, poses/a],\n  [4, b.jpg, poses/b],\n]\n"
    jobs = read_jobs(written(tmp_path, text, "UniAnimate_infer.yaml"))
    assert [job.settings["frame_interval"] for job in jobs] == [2, 4]


def test_xdynas_example(tmp_path: Path) -> None:
    """X-Dyna spec 10: one job for each pose video, its driving video for the face."""
    entry = {
        "image_path": "a.png",
        "caption": "a dancer",
        "target_videos": ["d1.mp4", "d2.mp4"],
        "target_no_head_poses": ["p1.mp4", "p2.mp4"],
    }
    first, second = read_jobs(written(tmp_path, [entry]))
    source = Source(tmp_path / "a.png", tmp_path / "p1.mp4", face=tmp_path / "d1.mp4", drawn=True)
    assert first == Job(source, {"prompt": "a dancer"})
    assert (second.source.driving.name, second.source.face.name) == ("p2.mp4", "d2.mp4")


def test_xdynas_example_without_drawn_poses_drives_by_the_video(tmp_path: Path) -> None:
    [job] = read_jobs(written(tmp_path, [{"image_path": "a.png", "caption": "", "target_videos": ["d.mp4"]}]))
    assert (job.source.driving.name, job.source.drawn, job.settings) == ("d.mp4", False, {})


def test_paths_are_seen_from_the_list_then_from_here(tmp_path: Path) -> None:
    """The originals' lists name files from their program's folder."""
    (tmp_path / "lists").mkdir()
    for name in ("here.png", "lists/there.mp4"):
        (tmp_path / name).touch()
    [job] = read_jobs(written(tmp_path / "lists", [[1, "here.png", "there.mp4"]]))
    assert job.source.reference.resolve() == tmp_path / "here.png"
    assert job.source.driving.resolve() == tmp_path / "lists" / "there.mp4"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([], "non-empty list"),
        ({"a": 1}, "non-empty list"),
        ([["2", "a.png"]], "Entry 1 .* is not a job"),
        ([{"reference": "a.png", "driving": "b"}, {"reference": "a.png"}], "Entry 2 .* driving"),
        ([7], "Entry 1 .* int"),
        ([{"reference": 3, "driving": "b"}], "Entry 1 .*a path was expected, not 3"),
        (
            [{"image_path": "a", "target_videos": ["1"], "target_no_head_poses": ["1", "2"]}],
            "1 target_videos",
        ),
        ("[1, ", "not valid JSON"),
    ],
)
def test_what_is_no_list_of_jobs_is_told_by_entry(tmp_path: Path, content: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_jobs(written(tmp_path, content))


def test_broken_yaml_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="jobs.yaml is not a YAML list"):
        read_jobs(written(tmp_path, "a: [1, 2", "jobs.yaml"))


MERGED = "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [{f'*a{i - 1}, ' * 9}]}}\n" for i in range(1, 12))
LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [{f'*a{i - 1}, ' * 9}]\n" for i in range(1, 12))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", "[" * 100_000),
        ("a.yaml", "[" * 2_000),
        ("a.json", "\xff[]"),
        ("a.yaml", "- \xe9"),
        ("a.yaml", "- " + "1" * 5000),
        ("a.yaml", "- 2001-99-99"),
        ("a.yaml", "- !!int ''"),
        ("a.yaml", '- !!python/object/apply:os.system ["false"]'),
        ("a.json", '[[Infinity, "a", "b"]]'),
        ("a.yaml", LAUGHS + "test_list_path: [{reference: a.png, driving: b.mp4, seed: *a11}]"),
        ("a.yaml", "- &a {reference: a.png, driving: b.mp4, seed: *a}"),
        ("a.yaml", LAUGHS + "test_list_path: [{reference: *a11, driving: b.mp4}]"),
        ("a.yaml", LAUGHS + "test_list_path: [{image_path: a.png, target_videos: [b.mp4], caption: *a11}]"),
        ("a.yaml", MERGED + "test_list_path: [{<<: *a11, reference: a.png, driving: b.mp4}]"),
        ("a.json", json.dumps([{"reference": [["x" * 10**6]] * 100, "driving": "b.mp4"}])),
        ("a.json", json.dumps([["x" * 10**6, "a.png", "b.mp4"]])),
        (
            "a.json",
            json.dumps([{"image_path": "a.png", "target_videos": ["b"], "caption": [["a"] * 99] * 99}]),
        ),
        ("a.json", json.dumps([{"image_path": "a.png", "target_videos": "b.mp4"}])),
        ("a.yaml", "- {reference: 0x" + "f" * 10**5 + ", driving: b.mp4}"),
        ("a.yaml", "- [0x" + "f" * 10**5 + ", a.png, b.mp4]"),
        ("a.yaml", "- {reference: a.png, driving: b.mp4, seed: 0x" + "f" * 10**5 + "}"),
        ("a.json", '[[1e308, "a.png", "b.mp4"]]'),
        ("a.json", '[{"reference": "a\\u0000.png", "driving": "b.mp4"}]'),
        ("a.json", '[{"reference": "a.png", "driving": "\\ud800.mp4"}]'),
        ("a.json", '[{"reference": "a.png", "driving": "b.mp4", "unet": "\\ud800"}]'),
        ("a.json", json.dumps([{"reference": "a" * 10**6, "driving": "b.mp4"}])),
    ],
)
def test_a_hostile_list_is_one_sentence_that_names_it(tmp_path: Path, name: str, content: str) -> None:
    file = tmp_path / name
    file.write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError) as refused:
        read_jobs(file)
    said = str(refused.value)
    assert str(file) in said and "\n" not in said and len(said) < 600
    assert "embedded" not in said and "codec can't encode" not in said


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.yaml")
    with pytest.raises(ValueError, match="a.yaml is no file that can be read; choose a list of jobs"):
        read_jobs(tmp_path / "a.yaml")


def test_a_file_larger_than_any_list_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a.json").open("wb") as file:
        file.truncate(LARGEST + 1)
    with pytest.raises(ValueError, match="a.json is larger than any list of jobs"):
        read_jobs(tmp_path / "a.json")


def test_a_missing_list_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a.json cannot be opened: No such file or directory\.$"):
        read_jobs(tmp_path / "a.json")


def test_a_stem_tells_jobs_apart_and_is_a_file_name() -> None:
    settings = {"seed": 3, "prompt": "of no use in a name"}
    job = Job(Source(Path("x/a b.png"), Path("y/c:d.mp4")), settings)
    assert job.stem == "a-b_c-d_seed-3"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name in ("a.png", "b.mp4", "c.mp4"):
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def test_a_key_is_the_bytes_and_the_settings(files: Path) -> None:
    source = Source(files / "a.png", files / "b.mp4")
    key = key_of_job(source, {"steps": 3})
    assert key == key_of_job(source, {"steps": 3})
    others = [
        (Source(files / "a.png", files / "c.mp4"), {"steps": 3}),
        (Source(files / "a.png", files / "b.mp4", face=files / "c.mp4"), {"steps": 3}),
        (Source(files / "a.png", files / "b.mp4", reference_pose=files / "c.mp4"), {"steps": 3}),
        (Source(files / "a.png", files / "b.mp4", drawn=True), {"steps": 3}),
        (source, {"steps": 4}),
    ]
    keys = {key_of_job(*other) for other in others}
    assert len(keys) == len(others)
    assert key not in keys
    (files / "b.mp4").write_bytes(b"other bytes")
    assert key_of_job(source, {"steps": 3}) != key


def test_the_ledger_knows_finished_files_only(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    assert ledger.done("k") is None
    file = tmp_path / "result.mp4"
    file.write_bytes(b"x")
    ledger.record("k", file)
    assert Ledger(tmp_path).done("k") == file
    file.unlink()
    assert Ledger(tmp_path).done("k") is None


RECORD = """
import sys
from pathlib import Path
from xdyna_unianimate.app.jobs import Ledger
for number in range(200):
    Ledger(Path(sys.argv[1])).record(f"{sys.argv[2]}{number}", Path("result.mp4"))
"""


def test_two_lists_write_into_one_ledger_at_once(tmp_path: Path) -> None:
    """No record is lost: each process used to write back what it had read, without the other's."""
    (tmp_path / "result.mp4").write_bytes(b"x")
    both = [subprocess.Popen([sys.executable, "-c", RECORD, str(tmp_path), name]) for name in ("a", "b")]
    assert [process.wait() for process in both] == [0, 0]
    ledger = Ledger(tmp_path)
    assert all(ledger.done(f"{name}{number}") for name in ("a", "b") for number in range(200))
    assert {left.name for left in tmp_path.iterdir()} == {LEDGER, "result.mp4"}


@pytest.mark.parametrize(
    "damage",
    [b"{", b"[" * 100_000, b'["k", 5]', b'[["k", ["a"]]]', b"7", b"\xff\xfe\0", b'["k", "result', b""],
)
def test_a_damaged_line_of_a_ledger_costs_that_job_alone(tmp_path: Path, damage: bytes) -> None:
    file = tmp_path / "result.mp4"
    file.write_bytes(b"x")
    Ledger(tmp_path).record("before", file)
    with (tmp_path / LEDGER).open("ab") as ledger:
        ledger.write(b"\n" + damage)
    Ledger(tmp_path).record("after", file)
    assert [Ledger(tmp_path).done(key) for key in ("before", "k", "after")] == [file, None, file]
