"""Model folders registered and searched, other packs' files found, missing files in a sentence."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from xdyna_unianimate.app import models
from xdyna_unianimate.app.networks import PLACES


@pytest.fixture
def paths(comfy):
    from xdyna_unianimate.nodes import paths

    return paths


@pytest.fixture
def folders(comfy, tmp_path, monkeypatch):
    """ComfyUI's model folders in an empty place, as before our pack was loaded."""
    import folder_paths

    entries = {
        name: ([str(tmp_path / "models" / name)], extensions)
        for name, (_, extensions) in folder_paths.folder_names_and_paths.items()
        if name not in models.FOLDERS
    }
    entries["custom_nodes"] = ([str(tmp_path / "custom_nodes")], set())
    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path / "models"))
    monkeypatch.setattr(folder_paths, "folder_names_and_paths", entries)
    if hasattr(folder_paths, "filename_list_cache"):
        monkeypatch.setattr(folder_paths, "filename_list_cache", {})
    monkeypatch.delenv("AUX_ANNOTATOR_CKPTS_PATH", raising=False)
    return folder_paths


def put(path: Path, content: bytes = b"weights") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def tree(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def test_registering_names_our_folders_and_writes_nothing(paths, folders, tmp_path):
    before = tree(tmp_path)
    paths.register()
    for name in models.FOLDERS:
        assert folders.get_folder_paths(name) == [str(tmp_path / "models" / name)]
    assert tree(tmp_path) == before


def test_registering_twice_is_the_same(paths, folders):
    paths.register()
    once = {name: (list(entry[0]), set(entry[1])) for name, entry in folders.folder_names_and_paths.items()}
    paths.register()
    assert once == {name: (list(e[0]), set(e[1])) for name, e in folders.folder_names_and_paths.items()}


def test_an_entry_of_extra_model_paths_stays_first_and_is_narrowed(paths, folders, tmp_path):
    shared = tmp_path / "a shared disk"
    put(shared / "yolox_l.onnx")
    put(shared / "readme.txt")
    folders.add_model_folder_path("dwpose", str(shared), True)
    paths.register()
    assert folders.get_folder_paths("dwpose")[0] == str(shared)
    assert folders.get_filename_list("dwpose") == ["yolox_l.onnx"]
    assert paths.locate("yolox_l.onnx", "dwpose") == shared / "yolox_l.onnx"


def test_extensions_that_another_pack_registered_are_kept(paths, folders, tmp_path):
    folders.folder_names_and_paths["dwpose"] = ([str(tmp_path / "theirs")], {".pt"})
    put(tmp_path / "theirs" / "dw-ll_ucoco_384_bs5.torchscript.pt")
    paths.register()
    assert "dw-ll_ucoco_384_bs5.torchscript.pt" in folders.get_filename_list("dwpose")
    assert folders.supported_pt_extensions >= {".ckpt"}, "core's own set is not the one that was changed"


def test_the_list_offers_the_demo_then_files_once(paths, folders, tmp_path):
    paths.register()
    put(tmp_path / "models/xdyna/unet-checkpoint-epoch-5.ckpt")
    put(tmp_path / "models/xdyna/mine/tuned.safetensors")
    put(tmp_path / "models/xdyna/notes.md")
    nested = str(Path("mine/tuned.safetensors"))
    assert paths.choices("xdyna") == [paths.DEMO, nested, "unet-checkpoint-epoch-5.ckpt"]
    assert paths.choices("xdyna", demo=False)[0] == nested
    assert paths.locate(nested, "xdyna").name == "tuned.safetensors"


@pytest.mark.parametrize("pack", ["comfyui_controlnet_aux", "ComfyUI_ControlNet_Aux"])
def test_a_neighbour_s_file_is_found_whatever_the_case_of_its_folder(paths, folders, tmp_path, pack):
    paths.register()
    file = put(tmp_path / "custom_nodes" / pack / "ckpts/yzd-v/DWPose/yolox_l.onnx")
    before = tree(tmp_path)
    assert "yolox_l.onnx" in paths.choices("dwpose")
    assert paths.locate("yolox_l.onnx", "dwpose") == file
    assert tree(tmp_path) == before


def test_our_own_folder_comes_before_a_neighbour_s(paths, folders, tmp_path):
    paths.register()
    put(tmp_path / "custom_nodes/comfyui_controlnet_aux/ckpts/yzd-v/DWPose/yolox_l.onnx")
    ours = put(tmp_path / "models/dwpose/yolox_l.onnx")
    assert paths.locate("yolox_l.onnx", "dwpose") == ours
    assert paths.choices("dwpose").count("yolox_l.onnx") == 1


def test_the_folder_that_controlnet_aux_was_told_to_use_is_searched(paths, folders, tmp_path, monkeypatch):
    paths.register()
    named = put(tmp_path / "Möbel 模型/hr16/UnJIT-DWPose/dw-ll_ucoco.onnx")
    monkeypatch.setenv("AUX_ANNOTATOR_CKPTS_PATH", str(tmp_path / "Möbel 模型"))
    assert paths.locate("dw-ll_ucoco.onnx", "dwpose") == named
    monkeypatch.delenv("AUX_ANNOTATOR_CKPTS_PATH")
    config = tmp_path / "custom_nodes/comfyui_controlnet_aux/config.yaml"
    put(config, 'annotator_ckpts_path: "../../Möbel 模型" # a comment\nEP_list: ["CPU"]\n'.encode())
    assert paths.locate("dw-ll_ucoco.onnx", "dwpose").samefile(named)


def test_ids_of_packs_that_are_not_installed_are_searched_below_models(paths, folders, tmp_path):
    paths.register()
    file = put(tmp_path / "models/ipadapter/ip-adapter-plus_sd15.bin")
    assert "ipadapter" not in folders.folder_names_and_paths
    assert "ip-adapter-plus_sd15.bin" in paths.choices("xdyna", "ipadapter")
    assert paths.locate("ip-adapter-plus_sd15.bin", "xdyna", "ipadapter") == file


@pytest.mark.parametrize("file", models.FILES, ids=lambda file: file.name)
def test_a_missing_file_is_one_sentence_with_all_that_mends_it(paths, folders, tmp_path, file):
    paths.register()
    with pytest.raises(FileNotFoundError) as caught:
        paths.locate(file.name, file.folder)
    text = str(caught.value)
    for part in (file.name, file.page, file.licence, str(tmp_path / "models" / file.folder)):
        assert part in text
    assert file.size is None or f"{file.size / 1e6:,.0f} MB" in text


def test_an_unknown_missing_file_says_where_it_was_searched(paths, folders, tmp_path):
    paths.register()
    with pytest.raises(FileNotFoundError, match="no model file 'mine.safetensors'"):
        paths.locate("mine.safetensors", "unianimate")


@pytest.mark.parametrize(
    "name", ["../secret.onnx", "/etc/passwd", "C:/secret.onnx", "a/../../secret.onnx", "..\\secret.onnx"]
)
def test_a_name_cannot_lead_out_of_the_folders(paths, folders, tmp_path, name):
    paths.register()
    put(tmp_path / "models/dwpose/a/keep.onnx")
    put(tmp_path / "models/secret.onnx")
    with pytest.raises(FileNotFoundError):
        paths.locate(name, "dwpose")


@pytest.mark.parametrize("name", ["a\0b.onnx", "\ud800.onnx"], ids=["zero", "half a letter"])
def test_a_name_that_no_file_can_have_is_of_no_file(paths, folders, name):
    paths.register()
    with pytest.raises(FileNotFoundError, match="no model file"):
        paths.locate(name, "dwpose")
    with pytest.raises(FileNotFoundError, match="no file"):
        paths.input_file(name)


def test_the_stamp_changes_with_the_file_and_never_raises(paths, folders, tmp_path):
    paths.register()
    assert paths.stamp("tuned.pth", "unianimate") == "tuned.pth is missing"
    file = put(tmp_path / "models/unianimate/tuned.pth")
    first = paths.stamp("tuned.pth", "unianimate")
    file.write_bytes(b"other weights")
    assert first != paths.stamp("tuned.pth", "unianimate") != "tuned.pth is missing"
    assert paths.stamp(paths.DEMO, "unianimate") == paths.DEMO


def test_a_saved_file_gets_the_next_free_number_inside_the_output_folder(paths, comfy):
    place = paths.save_place("clips/%width%x%height%", 96, 64)
    assert (place.name, place.subfolder) == ("96x64_00001_", "clips")
    (place.folder / f"{place.name}.mp4").write_bytes(b"x")
    assert paths.save_place("clips/%width%x%height%", 96, 64).name == "96x64_00002_"
    with pytest.raises(Exception, match="outside the output folder"):
        paths.save_place("../elsewhere/clip")


def test_windows_separators_in_a_name_are_understood(tmp_path):
    file = put(tmp_path / "sub" / "Deep" / "x.onnx")
    assert models.below(tmp_path, r"sub\deep\X.ONNX") == file


def test_the_table_says_what_is_chosen():
    for file in models.FILES:
        assert file.folder in PLACES
        assert file.page.startswith("https://") and file.licence and file.part
        assert models.described(f"some/folder/{file.name.upper()}") is file
        assert file.licence in models.badge(file.name)
    assert len({file.name for file in models.FILES}) == len(models.FILES)
    assert (
        models.described("nobody-knows.safetensors") is None
        and models.badge("nobody-knows.safetensors") == ""
    )


def test_the_search_reads_the_process_environment_by_default(monkeypatch, tmp_path):
    put(tmp_path / "yzd-v/DWPose/yolox_l.onnx")
    monkeypatch.setitem(os.environ, "AUX_ANNOTATOR_CKPTS_PATH", str(tmp_path))
    assert models.neighbours([]) == [tmp_path / "yzd-v/DWPose"]


def test_a_link_out_of_the_output_folder_is_not_followed(comfy, tmp_path):
    """ComfyUI 0.3.64 looks at the words of a name alone and would write behind the link."""
    import folder_paths
    from xdyna_unianimate.nodes import paths

    outside = tmp_path / "outside"
    outside.mkdir()
    (Path(folder_paths.get_output_directory()) / "leads-out").symlink_to(outside)
    for prefix in ("leads-out/clip", "leads-out/new/clip"):
        with pytest.raises(ValueError, match="outside the output folder"):
            paths.save_place(prefix)
    assert not list(outside.iterdir())


def test_nothing_behind_a_link_out_of_the_input_folder_is_looked_at(comfy, tmp_path, monkeypatch):
    import folder_paths
    from xdyna_unianimate.nodes import paths

    root, outside, looked = Path(folder_paths.get_input_directory()), tmp_path / "elsewhere", []
    put(outside / "x.json")
    put(root / "kept" / "x.json")
    (root / "leads-away").symlink_to(outside)
    (root / "leads-back").symlink_to(root / "kept")
    entries = models._entries
    monkeypatch.setattr(models, "_entries", lambda folder: looked.append(folder) or entries(folder))
    for name in ("leads-away/x.json", "Leads-Away/x.json", "leads-away", "leads-away/none"):
        with pytest.raises(FileNotFoundError, match="no file"):
            paths.input_file(name)
    assert set(looked) == {root}
    assert paths.input_file("leads-back/x.json").samefile(root / "kept" / "x.json")


@pytest.mark.parametrize("value", [None, float("nan"), -1, {"a": {}}, ["x"]], ids=str)
def test_what_is_no_name_is_one_sentence(paths, value):
    """ComfyUI 0.3.64 does not look at the values of lists; each of these ended in a TypeError."""
    from xdyna_unianimate.nodes.api import chosen

    for look in (lambda: paths.locate(value, "xdyna"), lambda: paths.input_file(value)):
        with pytest.raises(ValueError, match="chosen by its name"):
            look()
    assert "missing" in paths.stamp(value, "xdyna") and "missing" in paths.input_stamp(value)
    with pytest.raises(ValueError, match="there is no .*choose one of a, b"):
        chosen({"a": 1, "b": 2}, value, "order")
