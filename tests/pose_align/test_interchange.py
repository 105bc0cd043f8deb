"""POSE_KEYPOINT in its dialects with their five traps (peers spec 3b), OpenPose files, our pose files."""

from __future__ import annotations

import errno
import json
import logging
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xdyna_unianimate.pose_align import interchange
from xdyna_unianimate.pose_align.interchange import (
    DIALECTS,
    EXTRA,
    from_openpose,
    load_openpose,
    load_poses,
    save_openpose,
    save_poses,
    to_openpose,
)
from xdyna_unianimate.pose_align.pose import Origin, PoseError, PoseSequence
from xdyna_unianimate.pose_align.skeleton import BODY, FACE, FEET, HANDS, Joint

from .people import CANVAS, clip, standing, without

KEYS = ["pose_keypoints_2d", "face_keypoints_2d", "hand_left_keypoints_2d", "hand_right_keypoints_2d"]
LENGTHS = {"aux": [54, 210, 63, 63], "core": [54, 210, 63, 63], "openpose": [75, 210, 63, 63]}


def full_of_fields(frames: int = 3) -> PoseSequence:
    """Everything that the format itself cannot hold: real scores, origins, fps, a person's number."""
    rng = np.random.default_rng(3)
    scores = rng.uniform(0, 1.3, (frames, 134)).astype(np.float32)
    scores[:, :5] = 0.9
    origins = rng.integers(0, len(Origin), (frames, 134))
    return PoseSequence(
        clip(frames).points + rng.normal(size=(frames, 134, 2)), scores, CANVAS, 23.976, 2, origins
    )


def same(a: PoseSequence, b: PoseSequence) -> bool:
    arrays = all(np.array_equal(getattr(a, n), getattr(b, n)) for n in ("points", "scores", "origins"))
    return arrays and (a.canvas, a.fps, a.person_id) == (b.canvas, b.fps, b.person_id)


def foreign(frames: list[dict]) -> list[dict]:
    """As another program would have written them: without our own fields."""
    return [{key: value for key, value in frame.items() if key != EXTRA} for frame in frames]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("real_scores", [False, True])
def test_our_own_fields_survive_json(dialect: str, real_scores: bool) -> None:
    poses = full_of_fields()
    sent = json.loads(json.dumps(to_openpose(poses, dialect=dialect, real_scores=real_scores)))
    back = from_openpose(sent)
    assert same(back.poses, poses) and back.notes == ()


@pytest.mark.parametrize("dialect", DIALECTS)
def test_layout(dialect: str) -> None:
    for frame in to_openpose(clip(2), dialect=dialect):
        assert (frame["canvas_width"], frame["canvas_height"]) == CANVAS
        person = frame["people"][0]
        assert [len(person[key]) for key in KEYS] == LENGTHS[dialect]
        assert ("foot_keypoints_2d" in person) is (dialect == "core")
        assert all(type(value) is float for key in KEYS for value in person[key])
        face = np.reshape(person["face_keypoints_2d"], (70, 3))
        np.testing.assert_array_equal(
            face[68:, :2], standing()[[Joint.R_EYE, Joint.L_EYE]] + face[68, :2] - standing()[Joint.R_EYE]
        )


def test_openpose_order_of_25() -> None:
    body = np.reshape(to_openpose(clip(1), dialect="openpose")[0]["people"][0]["pose_keypoints_2d"], (25, 3))
    for place, joint in {
        1: Joint.NECK,
        9: Joint.R_HIP,
        14: Joint.L_ANKLE,
        18: Joint.L_EAR,
        19: Joint.L_BIG_TOE,
        24: Joint.R_HEEL,
    }.items():
        np.testing.assert_array_equal(body[place, :2], standing()[joint])
    np.testing.assert_array_equal(body[8, :2], standing()[[Joint.R_HIP, Joint.L_HIP]].mean(0))
    no_hip = to_openpose(without(clip(1), 0, Joint.R_HIP), dialect="openpose")[0]["people"][0]
    assert no_hip["pose_keypoints_2d"][24:30] == [0.0] * 6, "no middle of one hip"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_foreign_frames_come_back_as_drawn(dialect: str) -> None:
    poses = without(clip(3), 1, [Joint.R_ELBOW, 100])
    back = from_openpose(foreign(to_openpose(poses, dialect=dialect)), fps=12.0)
    parts = [BODY, FACE, *HANDS.values(), *([] if dialect == "aux" else [FEET])]
    for part in parts:
        seen = poses.visible()[:, part]
        np.testing.assert_array_equal(back.poses.visible()[:, part], seen)
        np.testing.assert_array_equal(back.poses.points[:, part][seen], poses.points[:, part][seen])
    assert back.poses.fps == 12.0 and back.poses.canvas == CANVAS


def test_trap_1_confidence_is_one_or_zero() -> None:
    """The aux nodes drop every point below 1: real scores would leave an empty skeleton."""
    poses = full_of_fields()
    for i, frame in enumerate(to_openpose(poses)):
        body = np.reshape(frame["people"][0]["pose_keypoints_2d"], (18, 3))
        np.testing.assert_array_equal(body[:, 2], poses.visible()[i, :18].astype(float))
        assert not body[body[:, 2] == 0].any(), "missing is 0, 0, 0"
        assert frame[EXTRA]["people"][0]["scores"] == poses.scores[i].tolist()
    real = np.reshape(to_openpose(poses, real_scores=True)[0]["people"][0]["pose_keypoints_2d"], (18, 3))
    np.testing.assert_allclose(real[0, 2], 0.9, atol=1e-6)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_trap_2_nothing_is_none(dialect: str) -> None:
    """Core's drawing reshapes a hand to (21, 3) without asking; aux writes None where there is none."""
    handless = without(clip(1), 0, np.r_[HANDS["left"], HANDS["right"], FACE])
    person = to_openpose(handless, dialect=dialect)[0]["people"][0]
    assert None not in person.values()
    for key in ("hand_left_keypoints_2d", "hand_right_keypoints_2d"):
        assert not np.array(person[key]).reshape(21, 3).any()
    sent = foreign(to_openpose(clip(1)))
    sent[0]["people"][0].update({key: None for key in KEYS[1:]})
    back = from_openpose(sent).poses
    assert back.visible()[0, BODY].all() and not back.visible()[0, 92:].any()


def test_trap_3_hands_go_to_the_nearer_wrist() -> None:
    sent = foreign(to_openpose(clip(3), dialect="core"))
    for frame in sent:
        person = frame["people"][0]
        left, right = person["hand_left_keypoints_2d"], person["hand_right_keypoints_2d"]
        person["hand_left_keypoints_2d"], person["hand_right_keypoints_2d"] = right, left
    back = from_openpose(sent)
    np.testing.assert_array_equal(back.poses.points[:, 92:], clip(3).points[:, 92:])
    assert any("exchanged: in 3 of 3 frames" in note for note in back.notes)
    assert not from_openpose(foreign(to_openpose(clip(3), dialect="core"))).notes


def test_trap_3_one_hand_and_crossing_hands() -> None:
    sent = foreign(to_openpose(without(clip(1), 0, np.r_[HANDS["right"]]), dialect="core"))
    person = sent[0]["people"][0]
    person["hand_right_keypoints_2d"], person["hand_left_keypoints_2d"] = (
        person["hand_left_keypoints_2d"],
        [0.0] * 63,
    )
    back = from_openpose(sent).poses
    assert back.visible()[0, HANDS["left"]].all() and not back.visible()[0, HANDS["right"]].any()
    crossing = clip(5).points.copy()
    crossing[2, HANDS["left"]], crossing[2, HANDS["right"]] = (
        crossing[2, HANDS["right"]],
        crossing[2, HANDS["left"]].copy(),
    )
    back = from_openpose(foreign(to_openpose(replace(clip(5), points=crossing), dialect="core")))
    (
        np.testing.assert_array_equal(back.poses.points[:, 92:], crossing[:, 92:]),
        "one odd frame does not flicker",
    )
    assert back.notes == ()


def test_trap_4_missing_feet_are_said() -> None:
    back = from_openpose(foreign(to_openpose(clip(2), dialect="aux")))
    assert not back.poses.visible()[:, FEET].any()
    assert any("no feet" in note for note in back.notes)
    assert not from_openpose(to_openpose(clip(2), dialect="aux")).notes, "ours carry them"


def test_trap_5_one_canvas() -> None:
    """Core looks at frame 0's canvas only."""
    sent = foreign(to_openpose(clip(1), dialect="core"))
    twice = replace(clip(1), points=clip(1).points * 2, canvas=(1024, 1536))
    back = from_openpose(sent + foreign(to_openpose(twice, dialect="core")))
    assert back.poses.canvas == CANVAS
    np.testing.assert_allclose(back.poses.points[1], back.poses.points[0])
    assert any("brought to the first, 512x768" in note for note in back.notes)
    with pytest.raises(
        PoseError, match="share frames and canvas; got 1 frames of 512x768, 1 frames of 1024x1536"
    ):
        to_openpose([clip(1), twice])


def test_normalised_coordinates_are_recognised() -> None:
    sent = foreign(to_openpose(replace(clip(2), points=clip(2).points / CANVAS), dialect="core"))
    back = from_openpose(sent)
    np.testing.assert_allclose(back.poses.points, clip(2).points, atol=1e-9)
    assert any("fractions of the canvas" in note for note in back.notes)


def test_edited_keypoints_win_over_our_own_fields() -> None:
    """An editor that moves a point and keeps keys that it does not know."""
    sent = to_openpose(clip(2), dialect="core")
    sent[1]["people"][0]["pose_keypoints_2d"][0] += 25
    back = from_openpose(sent).poses
    assert back.points[1, Joint.NOSE, 0] == clip(2).points[1, Joint.NOSE, 0] + 25
    rounded = to_openpose(full_of_fields(), dialect="core")
    for frame in rounded:
        frame["people"][0] = {k: [round(v, 4) for v in values] for k, values in frame["people"][0].items()}
    assert same(from_openpose(rounded).poses, full_of_fields())


def test_animals_are_declined_politely() -> None:
    frame = {"version": "ap10k", "animals": [[[1, 2, 1]] * 17], "canvas_width": 5, "canvas_height": 5}
    with pytest.raises(PoseError, match="holds animals .*Use a detector for people"):
        from_openpose([frame])


def test_frames_without_anybody() -> None:
    lost = without(clip(3), 1, slice(None))
    sent = to_openpose(lost)
    assert sent[1]["people"] == []
    back = from_openpose(foreign(sent)).poses
    assert len(back) == 3 and not back.visible()[1].any() and back.visible()[2, BODY].all()


def two_people() -> tuple[PoseSequence, PoseSequence]:
    small = replace(clip(4), points=clip(4).points * 0.4 + (300, 100), person_id=1)
    return clip(4, person_id=0), without(small, 2, slice(None))


def test_one_of_several_people_is_chosen_and_followed() -> None:
    large, small = two_people()
    sent = foreign(to_openpose([large, small], dialect="core"))
    sent[1]["people"].reverse()
    np.testing.assert_array_equal(from_openpose(sent).poses.points, large.points)
    right = from_openpose(sent, choose="rightmost").poses
    np.testing.assert_array_equal(right.visible(), small.visible())
    np.testing.assert_array_equal(right.points[[0, 1, 3]], small.points[[0, 1, 3]])
    with pytest.raises(PoseError, match="no person 5"):
        from_openpose(sent, choose=5)


def test_several_people_of_ours_are_lossless() -> None:
    large, small = two_people()
    small = PoseSequence(small.points, small.scores, small.canvas, 8.0, 1, np.full((4, 134), Origin.FILLED))
    back = from_openpose(to_openpose([replace(large, fps=8.0), small]), choose="rightmost")
    assert same(back.poses, small)


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        ([], "no frames"),
        (None, "one dict per frame; got a NoneType"),
        (5, "one dict per frame; got a int"),
        ([{"people": np.zeros(3), "canvas_width": 5, "canvas_height": 5}], "is a list; got a ndarray"),
        ([[1, 2]], "Frame 0 of the pose keypoints is a list"),
        ([{"people": []}], "do not say how large"),
        ([{"people": [], "canvas_width": 5, "canvas_height": 5}], "nobody in any frame"),
        ([{"people": 3, "canvas_width": 5, "canvas_height": 5}], "is a list; got a int"),
        ([{"people": ["x"], "canvas_width": 5, "canvas_height": 5}], "dict of flat lists; got a str"),
        (
            [{"people": [{"pose_keypoints_2d": [1.0] * 51}], "canvas_width": 5, "canvas_height": 5}],
            "pose_keypoints_2d has 51 numbers; expected 54 or 75",
        ),
        (
            [{"people": [{"hand_left_keypoints_2d": ["a"]}], "canvas_width": 5, "canvas_height": 5}],
            "hand_left_keypoints_2d must be a list of numbers",
        ),
    ],
)
def test_malformed_frames_are_one_sentence(frames, said) -> None:
    with pytest.raises(PoseError, match=said):
        from_openpose(frames)


def test_nested_triples_and_68_face_points_are_read_too() -> None:
    sent = foreign(to_openpose(clip(1), dialect="core"))
    person = sent[0]["people"][0]
    for key in KEYS:
        person[key] = np.reshape(person[key], (-1, 3)).tolist()
    person["face_keypoints_2d"] = person["face_keypoints_2d"][:68]
    np.testing.assert_array_equal(from_openpose(sent).poses.points, clip(1).points)


def test_openpose_files_one_per_frame(tmp_path: Path) -> None:
    """As the OpenPose program writes them: no canvas, numbers in the names."""
    save_openpose(clip(11), tmp_path / "walk", dialect="openpose", real_scores=True)
    files = sorted((tmp_path / "walk").iterdir())
    assert files[10].name == "walk_000000000010_keypoints.json"
    for number, file in enumerate(files):
        content = json.loads(file.read_text())
        assert content["version"] == 1.3
        bare = {"version": 1.3, "people": content["people"]}
        file.unlink()
        (tmp_path / "walk" / f"walk_{number}_keypoints.json").write_text(json.dumps(bare))
    with pytest.raises(PoseError, match="give the width and height"):
        load_openpose(tmp_path / "walk")
    back = load_openpose(tmp_path / "walk", canvas=CANVAS, fps=30).poses
    np.testing.assert_array_equal(back.points, clip(11).points)
    assert back.scores.max() == np.float32(0.9) and back.fps == 30


def test_files_without_numbers_come_by_name_whatever_the_disk_says(tmp_path: Path, monkeypatch) -> None:
    poses = clip(3)
    assert not np.allclose(poses.points[0, BODY], poses.points[1, BODY]), "or the order would not show"
    for name, frame in zip("abc", foreign(to_openpose(poses)), strict=True):
        (tmp_path / f"{name}.json").write_text(json.dumps(frame), encoding="utf-8")
    monkeypatch.setattr(Path, "glob", lambda folder, pattern: [folder / f"{name}.json" for name in "bca"])
    assert np.allclose(load_openpose(tmp_path).poses.points[:, BODY], poses.points[:, BODY], atol=1e-3)


def test_a_file_that_an_editor_on_windows_has_saved(tmp_path: Path) -> None:
    file = tmp_path / "poses.json"
    save_poses(clip(2), file)
    file.write_text(file.read_text(encoding="utf-8"), encoding="utf-8-sig")
    assert same(load_poses(file), clip(2))


def test_openpose_file_with_all_frames(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_openpose(full_of_fields(), tmp_path / "clip.json")
    assert isinstance(json.loads((tmp_path / "clip.json").read_text()), list)
    assert same(load_openpose(tmp_path / "clip.json").poses, full_of_fields())
    (tmp_path / "aux.json").write_text(json.dumps(foreign(to_openpose(clip(2)))))
    with caplog.at_level(logging.WARNING):
        poses = load_poses(tmp_path / "aux.json")
    assert len(poses) == 2 and "no feet" in caplog.text


@pytest.mark.parametrize("name", ["poses.npz", "poses.json", "POSES.NPZ"])
@pytest.mark.parametrize("fps", [None, 29.97])
def test_pose_files_come_back_exactly(tmp_path: Path, name: str, fps: float | None) -> None:
    poses = replace(full_of_fields(), fps=fps)
    save_poses(poses, tmp_path / "new folder" / name)
    assert same(load_poses(tmp_path / "new folder" / name), poses)
    assert [file.name for file in (tmp_path / "new folder").iterdir()] == [name], "no partial files stay"


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), suffix=st.sampled_from([".npz", ".json"]))
def test_any_coordinates_come_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, seed: int, suffix: str
) -> None:
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(2, 134, 2)) * 10.0 ** rng.integers(-300, 300, (2, 134, 2))
    poses = PoseSequence(points, rng.uniform(0, 2, (2, 134)), (3, 7))
    path = tmp_path_factory.mktemp("poses") / f"wild{suffix}"
    save_poses(poses, path)
    assert same(load_poses(path), poses)


class Bomb:
    def __reduce__(self):
        return (Path("was_run").write_text, ("x",))


def test_damaged_and_foreign_files_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_poses(clip(1), "good.npz")
    save_poses(clip(1), "good.json")
    Path("cut.npz").write_bytes(Path("good.npz").read_bytes()[:200])
    Path("cut.json").write_text(Path("good.json").read_text()[:200])
    Path("other.json").write_text('{"a": 1}')
    Path("newer.json").write_text(Path("good.json").read_text().replace('"version": 1', '"version": 9'))
    fields = json.loads(Path("good.json").read_text())
    Path("short.json").write_text(json.dumps({**fields, "points": fields["points"][0][1:]}))
    Path("gap.json").write_text(json.dumps({key: value for key, value in fields.items() if key != "canvas"}))
    Path("binary.json").write_bytes(b"\xff\xfe\x00")
    np.savez("alien.npz", x=np.zeros(3))
    np.savez("code.npz", details=np.array([Bomb()], dtype=object))
    Path("pickle.npz").write_bytes(pickle.dumps(Bomb()))
    np.save("array.npy", np.zeros(3))
    Path("array.npy").rename("array.npz")
    archive = bytearray(Path("good.npz").read_bytes())
    archive[len(archive) // 2] ^= 0xFF
    Path("flipped.npz").write_bytes(archive)
    bad = sorted(file.name for file in tmp_path.iterdir() if file.stem != "good")
    assert len(bad) == 12
    for name in bad:
        with pytest.raises(PoseError, match=name):
            load_poses(name)
    assert not Path("was_run").exists(), "nothing from a file is ever executed"
    with pytest.raises(PoseError, match="ends in .npz or .json; got poses.txt"):
        save_poses(clip(1), "poses.txt")
    with pytest.raises(FileNotFoundError):
        load_poses("absent.npz")
    with pytest.raises(PoseError, match="holds no .json files"):
        (tmp_path / "empty").mkdir()
        load_poses("empty")


@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_a_read_only_disk_names_the_file_that_was_asked_for(tmp_path: Path, monkeypatch, suffix: str) -> None:
    """And not the one beside it that nobody has heard of, nor that it cannot be deleted."""

    def read_only(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    path = tmp_path / f"a{suffix}"
    for name in ("write_bytes", "replace"):
        with monkeypatch.context() as disk, pytest.raises(OSError) as caught:
            disk.setattr(Path, name, read_only)
            disk.setattr(Path, "unlink", read_only)
            save_poses(full_of_fields(), path)
        assert caught.value.filename == str(path)


def test_a_disk_that_fails_names_the_file(tmp_path: Path, monkeypatch) -> None:
    def fails(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    save_poses(full_of_fields(), tmp_path / "a.npz")
    monkeypatch.setattr(Path, "read_bytes", fails)
    with pytest.raises(OSError) as caught:
        load_poses(tmp_path / "a.npz")
    assert caught.value.filename == str(tmp_path / "a.npz")


def test_a_shorter_clip_leaves_no_frames_of_the_longer_one(tmp_path: Path) -> None:
    """And deletes nothing but what this program named: five frames, then two, read back as five."""
    folder = tmp_path / "clip [1]"
    save_openpose(clip(5), folder)
    others = [
        "clip [1]_keypoints.json",
        "clip [1]_7_keypoints.json",
        "b_000000000004_keypoints.json",
        "notes.txt",
    ]
    for name in others:
        (folder / name).write_text("[]")
    save_openpose(clip(2), folder)
    ours = {f"clip [1]_00000000000{i}_keypoints.json" for i in range(2)}
    assert {file.name for file in folder.iterdir()} == {*others, *ours}
    for name in others:
        (folder / name).unlink()
    assert len(load_poses(folder)) == 2


@pytest.mark.parametrize("place", ["canvas", "fps", "format", "version", "person_id"])
@pytest.mark.parametrize("value", [list(range(100_000)), 10**4000, "x" * 10**6, [[[["x"] * 99] * 99] * 9]])
def test_what_a_file_holds_does_not_fill_the_error(tmp_path: Path, place: str, value: object) -> None:
    path = tmp_path / "a.json"
    save_poses(full_of_fields(), path)
    path.write_text(json.dumps({**json.loads(path.read_text()), place: value}))
    if place == "person_id" and value == 10**4000:
        assert load_poses(path).person_id == value
        return
    with pytest.raises(PoseError) as caught:
        load_poses(path)
    assert str(path) in str(caught.value) and len(str(caught.value)) < len(str(path)) + 350


def test_details_that_fill_the_memory_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    poses = full_of_fields()
    arrays = {name: getattr(poses, name) for name in ("points", "scores", "origins")}
    np.savez_compressed(path, details=np.array('{"x":[' + "[]," * 10_000 + "[]]}"), **arrays)
    with pytest.raises(PoseError, match="a.npz is not a pose file, or is damaged .*details"):
        load_poses(path)


def test_text_that_takes_too_much_to_parse_is_not_read(tmp_path: Path, monkeypatch) -> None:
    save_openpose(clip(3), tmp_path / "folder")
    save_openpose(clip(3), tmp_path / "a.json")
    size = (tmp_path / "a.json").stat().st_size
    monkeypatch.setattr(interchange, "TEXT_LIMIT", size // 2)
    for name in ("folder", "a.json"):
        with pytest.raises(PoseError, match=f"{name} has .* cut the clip in parts"):
            load_poses(tmp_path / name)
    save_poses(clip(3), tmp_path / "a.npz")
    monkeypatch.setattr(interchange, "TEXT_LIMIT", 100)
    with pytest.raises(PoseError, match="b.json has .* keep it as .npz"):
        save_poses(clip(3), tmp_path / "b.json")
    assert len(load_poses(tmp_path / "a.npz")) == 3 and not (tmp_path / "b.json").exists()


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_poses(clip(1), tmp_path / "poses.npz")

    def full(self: Path, content: bytes) -> int:
        with self.open("wb") as file:
            file.write(content[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        save_poses(clip(5), tmp_path / "poses.npz")
    assert same(load_poses(tmp_path / "poses.npz"), clip(1))
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("poses.json", b"[" * 100_000),
        ("poses.json", b'{"format": "xdua-poses", "version": 1, "scores": [[1e999]]}'),
        (
            "poses.json",
            b'[{"canvas_width": 9, "canvas_height": 9, "people": [{"pose_keypoints_2d": ["a"]}]}]',
        ),
        ("poses.json", b'[{"canvas_width": 1e300, "canvas_height": 9, "people": []}]'),
        ("poses.npz", b"PK\x03\x04"),
    ],
)
def test_a_hostile_file_is_one_sentence_that_names_it(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PoseError, match=name) as caught:
        load_poses(tmp_path / name)
    assert "\n" not in str(caught.value)
