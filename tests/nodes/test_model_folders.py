"""Model files where people keep them: extra_model_paths.yaml, every neighbouring pack, nothing written there."""

from __future__ import annotations

from pathlib import Path

import pytest
from xdyna_unianimate.app import models, networks
from xdyna_unianimate.pose_align.dwpose_files import find_models

from ..fakes import comfy_host

DWPOSE = ("yolox_l.onnx", "dw-ll_ucoco_384.onnx")
UNIANIMATE = (
    "unianimate_16f_32f_non_ema_223000.pth",
    "v2-1_512-ema-pruned.ckpt",
    "open_clip_pytorch_model.bin",
)

PLACES = (
    ("comfyui_controlnet_aux/ckpts/yzd-v/DWPose", DWPOSE),
    ("comfyui_controlnet_aux/ckpts/hr16/UnJIT-DWPose", ("dw-ll_ucoco.onnx",)),
    ("ComfyUI-UniAnimate-W/checkpoints", (*DWPOSE, *UNIANIMATE)),
    ("comfyui-unianimate-w/checkpoints", (*DWPOSE, *UNIANIMATE)),
    ("UniAnimate/checkpoints", (*DWPOSE, *UNIANIMATE)),
    ("UniAnimate-DiT/checkpoints", DWPOSE),
    ("ComfyUI-AnimateDiff-Evolved/models", ("mm_sd_v15.ckpt",)),
)
"""Folders below custom_nodes, and the files of our table that lie there (peers 3c)."""

CORE = (
    ("checkpoints", "v1-5-pruned-emaonly.safetensors"),
    ("checkpoints", "v2-1_512-ema-pruned.ckpt"),
    ("vae", "v2-1_512-ema-pruned.ckpt"),
    ("clip_vision", "CLIP-ViT-H-14-laion2B-s32B-b79K.safetensors"),
    ("text_encoders", "open_clip_pytorch_model.bin"),
    ("ipadapter", "ip-adapter-plus_sd15.bin"),
    ("animatediff_models", "mm_sd_v15.ckpt"),
)
"""Folders below models in which people have files of the table for other packs."""


@pytest.fixture
def root(comfy, tmp_path, monkeypatch) -> Path:
    """ComfyUI's folders in an empty place whose name is not ASCII, our ids registered."""
    import folder_paths
    from xdyna_unianimate.nodes import paths

    root = tmp_path / "模型 été"
    ours = {
        name: ([str(root / "models" / name)], set(entry[1]))
        for name, entry in folder_paths.folder_names_and_paths.items()
        if name not in models.FOLDERS
    }
    ours["custom_nodes"] = ([str(root / "custom_nodes")], set())
    monkeypatch.setattr(folder_paths, "models_dir", str(root / "models"))
    monkeypatch.setattr(folder_paths, "folder_names_and_paths", ours)
    if hasattr(folder_paths, "filename_list_cache"):
        monkeypatch.setattr(folder_paths, "filename_list_cache", {})
    monkeypatch.delenv("AUX_ANNOTATOR_CKPTS_PATH", raising=False)
    paths.register()
    return root


def put(folder: Path, *names: str) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"weights")
    return [folder / name for name in names]


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def ids_of(name: str) -> tuple[str, ...]:
    row = models.described(name)
    return (row.folder, *row.also)


@pytest.mark.parametrize(("place", "names"), PLACES, ids=[place for place, _ in PLACES])
def test_files_of_a_neighbouring_pack_are_found_where_they_lie_and_left_alone(root, place, names):
    """By the nodes, by the command line, and by the pose detector, which knows the places by itself."""
    from xdyna_unianimate.nodes import paths

    files = put(root / "custom_nodes" / place, *names)
    (root / "models").mkdir()
    before = snapshot(root)
    for file in files:
        assert paths.locate(file.name, *ids_of(file.name)) == file
        assert file.name in paths.choices(*ids_of(file.name))
        assert models.find(file.name, networks.places([root / "models"])) == file
    if set(DWPOSE) <= set(names):
        found = find_models(paths.folders("dwpose"))
        assert [found.person.name, found.pose.name] == list(DWPOSE)
        assert find_models(networks.places([root / "models"])) == found
        assert find_models([root / "custom_nodes"]) == found
    assert snapshot(root) == before


@pytest.mark.parametrize(("folder", "name"), CORE, ids=[f"{folder}/{name}" for folder, name in CORE])
def test_files_in_folders_of_the_program_and_of_other_packs_are_found(root, folder, name):
    from xdyna_unianimate.nodes import paths

    (file,) = put(root / "models" / folder, name)
    assert paths.locate(name, *ids_of(name)) == file
    assert models.find(name, networks.places([root / "models"])) == file
    assert models.find(name, networks.places(paths.everywhere())) == file


def test_a_name_with_a_space_at_its_end_is_the_same_file(root):
    from xdyna_unianimate.nodes import paths

    (file,) = put(root / "custom_nodes/ComfyUI-UniAnimate-W/checkpoints", f"{UNIANIMATE[0]} ")
    assert paths.locate(UNIANIMATE[0], "unianimate") == file


@pytest.mark.parametrize("file", models.FILES, ids=lambda file: file.name)
def test_every_row_that_is_missing_says_what_where_and_under_which_terms(root, file):
    from xdyna_unianimate.nodes import paths

    with pytest.raises(FileNotFoundError) as caught:
        paths.locate(file.name, file.folder, *file.also)
    text = str(caught.value)
    size = f"{file.size / 1e6:,.0f} MB" if file.size else file.part
    for part in (file.name, size, file.licence, file.page, str(root / "models" / file.folder)):
        assert part in text
    assert "\n" not in text


@pytest.mark.parametrize("system", list(networks.PARTS))
def test_the_command_line_says_the_same(tmp_path, system):
    """The first part that lacks, then the next, until all are named."""
    given, said = {}, []
    home = tmp_path / "models"
    for part in networks._needed(system, {}):
        with pytest.raises(FileNotFoundError) as caught:
            networks.find_files(system, networks.Weights(given=given, folders=(home,)))
        given[part] = tmp_path
        said.append(str(caught.value))
        row = models.described(networks.PARTS[system][part].names[0])
        for word in (row.name, row.licence, row.page, str(home / row.folder), f"--{part}"):
            assert word in said[-1]
    assert networks.find_files(system, networks.Weights(given=given, folders=(home,))).unet


YAML = """
shared:
    base_path: {base}
    is_default: {default}
    dwpose: |
        netz
        weitere
    xdyna: x
    unianimate: {absolute}
"""


@pytest.fixture
def load_yaml(comfy, monkeypatch):
    """The program's own reader of extra_model_paths.yaml, or the same steps on the stand-ins."""
    if comfy.real:
        monkeypatch.syspath_prepend(str(comfy_host.real_path()))
        from utils.extra_config import load_extra_path_config

        yield load_extra_path_config
        return
    yield as_the_program_reads_it


def as_the_program_reads_it(file: str) -> None:
    yaml = pytest.importorskip("yaml", reason="pyyaml is not installed")
    import folder_paths

    for section in yaml.safe_load(Path(file).read_text(encoding="utf-8")).values():
        base, default = section.pop("base_path", ""), section.pop("is_default", False)
        for name, lines in section.items():
            for line in filter(None, lines.split("\n")):
                folder_paths.add_model_folder_path(name, str(Path(base, line)), default)


@pytest.mark.parametrize("default", [True, False])
@pytest.mark.parametrize("registered_first", [True, False])
def test_extra_model_paths_yaml_works_for_our_folders(
    root, load_yaml, tmp_path, monkeypatch, default, registered_first
):
    """Whether it is read before the pack is loaded, as at the start, or after."""
    import folder_paths
    from xdyna_unianimate.nodes import paths

    base, absolute = tmp_path / "геteilt 共有", tmp_path / "anderswo"
    person, *_ = put(base / "netz", "yolox_l.onnx", "readme.txt")
    (pose,) = put(base / "weitere", "dw-ll_ucoco_384.onnx")
    (unet,) = put(base / "x" / "v2", "unet-checkpoint-epoch-5.ckpt")
    (network,) = put(absolute, "mine.safetensors")
    own = put(root / "models" / "dwpose", "own.onnx")[0]
    file = tmp_path / "extra_model_paths.yaml"
    file.write_text(YAML.format(base=base, absolute=absolute, default=default), encoding="utf-8")
    if not registered_first:
        for name in models.FOLDERS:
            folder_paths.folder_names_and_paths.pop(name)
    load_yaml(str(file))
    paths.register()

    ours = paths.choices("dwpose", demo=False)
    assert set(ours) == {"yolox_l.onnx", "dw-ll_ucoco_384.onnx", "own.onnx"}
    assert paths.locate("yolox_l.onnx", "dwpose") == person and paths.locate("own.onnx", "dwpose") == own
    assert find_models(paths.folders("dwpose")).pose == pose
    assert paths.locate(str(Path("v2", "unet-checkpoint-epoch-5.ckpt")), "xdyna") == unet
    assert paths.locate("mine.safetensors", "unianimate") == network
    assert base / "netz" in paths.everywhere() and paths.everywhere()[0] == root / "models"
    if default:
        assert folder_paths.get_folder_paths("dwpose")[0].startswith(str(base))
