"""Folders below the base directory of the start options, which must be set before this is imported."""

import os
import time
from pathlib import Path

from comfy.cli_args import args

supported_pt_extensions = {".ckpt", ".pt", ".pt2", ".bin", ".pth", ".safetensors", ".pkl", ".sft"}

base_path = args.base_directory
models_dir = str(Path(base_path, "models"))
folder_names_and_paths = {
    name: ([str(Path(models_dir, name))], supported_pt_extensions)
    for name in (
        "checkpoints",
        "vae",
        "text_encoders",
        "diffusion_models",
        "clip_vision",
        "controlnet",
        "vae_approx",
    )
}
folder_names_and_paths["custom_nodes"] = ([str(Path(base_path, "custom_nodes"))], set())

_directories = {name: str(Path(base_path, name)) for name in ("input", "output", "temp", "user")}
_TYPES = {"image": {".png", ".jpg", ".jpeg", ".webp"}, "video": {".mp4", ".webm", ".mov", ".mkv", ".gif"}}


def get_input_directory():
    return _directories["input"]


def get_output_directory():
    return _directories["output"]


def get_temp_directory():
    return _directories["temp"]


def get_user_directory():
    return _directories["user"]


def set_input_directory(input_dir):
    _directories["input"] = input_dir


def set_output_directory(output_dir):
    _directories["output"] = output_dir


def set_temp_directory(temp_dir):
    _directories["temp"] = temp_dir


def set_user_directory(user_dir):
    _directories["user"] = user_dir


def filter_files_content_types(files, content_types):
    wanted = set().union(*(_TYPES.get(kind, set()) for kind in content_types))
    return [name for name in files if Path(name).suffix.lower() in wanted]


def annotated_filepath(name):
    for kind in ("input", "output", "temp"):
        if name.endswith(f"[{kind}]"):
            return name[: -len(kind) - 3], _directories[kind]
    return name, None


def get_annotated_filepath(name, default_dir=None):
    name, folder = annotated_filepath(name)
    return str(Path(folder or default_dir or get_input_directory(), name))


def exists_annotated_filepath(name):
    return Path(get_annotated_filepath(name)).exists()


def add_model_folder_path(folder_name, full_folder_path, is_default=False):
    paths, _ = folder_names_and_paths.setdefault(folder_name, ([], set()))
    if full_folder_path in paths and is_default:
        paths.remove(full_folder_path)
    if full_folder_path not in paths:
        paths.insert(0 if is_default else len(paths), full_folder_path)


def get_folder_paths(folder_name):
    return list(folder_names_and_paths[folder_name][0])


def get_filename_list(folder_name):
    """No extensions means every file."""
    folders, extensions = folder_names_and_paths[folder_name]
    found = {
        str(path.relative_to(folder))
        for folder in folders
        for path in Path(folder).rglob("*")
        if path.is_file() and (not extensions or path.suffix.lower() in extensions)
    }
    return sorted(found)


def get_full_path(folder_name, filename):
    if folder_name not in folder_names_and_paths:
        return None
    inside = Path("/", filename).resolve().relative_to("/")
    hits = (Path(folder, inside) for folder in folder_names_and_paths[folder_name][0])
    return next((str(path) for path in hits if path.is_file()), None)


def get_full_path_or_raise(folder_name, filename):
    path = get_full_path(folder_name, filename)
    if path is None:
        raise FileNotFoundError(f"Model in folder '{folder_name}' with filename '{filename}' not found.")
    return path


def get_save_image_path(filename_prefix, output_dir, image_width=0, image_height=0):
    values = {"width": image_width, "height": image_height, "year": time.strftime("%Y")}
    for name, value in values.items():
        filename_prefix = filename_prefix.replace(f"%{name}%", str(value))
    relative = Path(filename_prefix)
    # By the words alone, as ComfyUI does: a link is followed.
    folder = Path(os.path.normpath(Path(output_dir, relative.parent)))
    if not folder.is_relative_to(output_dir):
        raise Exception("Saving image outside the output folder is not allowed.")
    folder.mkdir(parents=True, exist_ok=True)
    starts = [path.name[len(relative.name) + 1 :] for path in folder.glob(f"{relative.name}_*")]
    taken = [int(start.split("_")[0]) for start in starts if start.split("_")[0].isdigit()]
    subfolder = "" if relative.parent == Path() else str(relative.parent)
    return str(folder), relative.name, max(taken, default=0) + 1, subfolder, filename_prefix
