"""The weight files of both systems and of the pose detector: names, sizes, licences, pages, places.

Nothing here opens or fetches a file. Neighbouring packs' folders are searched, never written to
(peers 3c); names are compared without regard to case, because a pack folder may be lower-case.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath


@dataclass(frozen=True)
class ModelFile:
    """One published file.

    name:    as published; shipped workflows and documents use it.
    part:    what is read from it.
    folder:  ComfyUI's model folder id it belongs in.
    licence: what its page and its authors say, in a phrase.
    page:    where a person can read the terms and fetch it.
    size:    bytes, where they could be confirmed; sha256 likewise.
    also:    further folder ids in which people keep it.
    group:   what it is fetched with: a system or the pose detector; empty where nothing needs it.
    remote:  its path on the page, where it has another name there.
    """

    name: str
    part: str
    folder: str
    licence: str
    page: str
    size: int | None = None
    sha256: str | None = None
    also: tuple[str, ...] = ()
    group: str = ""
    remote: str = ""

    @property
    def research_only(self) -> bool:
        """Whether its authors limit it to research: such terms are to be accepted before it is fetched."""
        return self.licence in (RESEARCH_ONLY, XDYNA_WEIGHTS)

    def home(self, models: Path) -> Path:
        """Its path below a models folder."""
        return models / self.folder / self.name


RESEARCH_ONLY = "research and non-commercial use only"
XDYNA_WEIGHTS = "MIT on the model card, while the README limits its purpose to research"
UNCONFIRMED = "terms of the weights unconfirmed (code Apache-2.0)"

UNIANIMATE_PAGE = "https://modelscope.cn/models/iic/unianimate"
XDYNA_PAGE = "https://huggingface.co/Boese0601/X-Dyna"
DWPOSE_PAGE = "https://huggingface.co/yzd-v/DWPose"
IP_ADAPTER_PAGE = "https://huggingface.co/h94/IP-Adapter"

FILES = (
    ModelFile(
        "unianimate_16f_32f_non_ema_223000.pth", "UniAnimate UNet",
        "unianimate", RESEARCH_ONLY, UNIANIMATE_PAGE, group="unianimate",
    ),
    ModelFile(
        "v2-1_512-ema-pruned.ckpt", "UniAnimate autoencoder",
        "unianimate", "CreativeML Open RAIL++-M", UNIANIMATE_PAGE, size=5_214_865_159,
        also=("checkpoints", "vae"), group="unianimate",
    ),
    ModelFile(
        "open_clip_pytorch_model.bin", "UniAnimate text and image towers (OpenCLIP ViT-H-14)",
        "unianimate", "MIT", UNIANIMATE_PAGE, size=3_944_692_325,
        also=("clip_vision", "text_encoders"), group="unianimate",
    ),
    ModelFile(
        "unet-checkpoint-epoch-5.ckpt", "X-Dyna UNet",
        "xdyna", XDYNA_WEIGHTS, XDYNA_PAGE, group="xdyna",
    ),
    ModelFile(
        "controlnet-checkpoint-epoch-5.ckpt", "X-Dyna pose ControlNet",
        "xdyna", XDYNA_WEIGHTS, XDYNA_PAGE, group="xdyna",
    ),
    ModelFile(
        "controlnet-face-checkpoint-epoch-2.ckpt", "X-Dyna face ControlNet",
        "xdyna", XDYNA_WEIGHTS, XDYNA_PAGE, group="xdyna",
    ),
    ModelFile(
        "ip-adapter-plus_sd15.bin", "X-Dyna image prompt (IP-Adapter Plus)",
        "xdyna", "Apache-2.0", IP_ADAPTER_PAGE, also=("ipadapter",), group="xdyna",
    ),
    ModelFile(
        "CLIP-ViT-H-14-laion2B-s32B-b79K.safetensors", "X-Dyna image encoder (CLIP ViT-H)",
        "clip_vision", "MIT", IP_ADAPTER_PAGE, size=2_528_373_448,
        sha256="6ca9667da1ca9e0b0f75e46bb030f7e011f44f86cbfb8d5a36590fcd7507b030", also=("xdyna",), group="xdyna",
        remote="models/image_encoder/model.safetensors",
    ),
    ModelFile(
        "v1-5-pruned-emaonly.safetensors", "X-Dyna base, autoencoder and text tower (Stable Diffusion 1.5)",
        "checkpoints", "CreativeML Open RAIL-M",
        "https://huggingface.co/stable-diffusion-v1-5/stable-diffusion-v1-5", size=4_265_146_304,
        sha256="6ce0161689b3853acaa03779ec93eafe75a02f4ced659bee03f50797806fa2fa", also=("xdyna",), group="xdyna",
    ),
    ModelFile(
        "mm_sd_v15.ckpt", "motion modules for an X-Dyna UNet without them (AnimateDiff v1)",
        "animatediff_models", "Apache-2.0", "https://huggingface.co/guoyww/animatediff", also=("xdyna",),
    ),
    ModelFile(
        "yolox_l.onnx", "person detector",
        "dwpose", UNCONFIRMED, DWPOSE_PAGE, size=216_746_733,
        sha256="7860ae79de6c89a3c1eb72ae9a2756c0ccfbe04b7791bb5880afabd97855a411", group="dwpose",
    ),
    ModelFile(
        "dw-ll_ucoco_384.onnx", "whole-body pose network",
        "dwpose", UNCONFIRMED, DWPOSE_PAGE, size=134_399_116,
        sha256="724f4ff2439ed61afb86fb8a1951ec39c6220682803b4a8bd4f598cd913b1843", group="dwpose",
    ),
    ModelFile(
        "dw-ll_ucoco.onnx", "whole-body pose network, 256x192",
        "dwpose", UNCONFIRMED, "https://huggingface.co/hr16/UnJIT-DWPose",
    ),
)  # fmt: skip

GROUPS = tuple(dict.fromkeys(file.group for file in FILES if file.group))
"""What can be fetched as a whole: each system, and the pose detector."""

FOLDERS = ("unianimate", "xdyna", "dwpose")
"""The model folder ids of our own."""

NEIGHBOURS = (
    "comfyui_controlnet_aux/ckpts/yzd-v/DWPose",
    "comfyui_controlnet_aux/ckpts/hr16/UnJIT-DWPose",
    "ComfyUI-UniAnimate-W/checkpoints",
    "UniAnimate/checkpoints",
    "UniAnimate-DiT/checkpoints",
    "ComfyUI-AnimateDiff-Evolved/models",
)
"""Folders of other packs, seen from a custom_nodes folder, that hold files of the table (peers 3c)."""

AUX_PACK = "comfyui_controlnet_aux"
AUX_FOLDERS = ("yzd-v/DWPose", "hr16/UnJIT-DWPose")
"""Where that pack keeps its files below the folder that its settings name."""


def described(name: str) -> ModelFile | None:
    """The table's row for a file name (any folder before it is ignored), or None."""
    wanted = PurePosixPath(name.replace("\\", "/")).name.casefold()
    return next((file for file in FILES if file.name.casefold() == wanted), None)


def badge(name: str) -> str:
    """One line for the place where a file is chosen: the part and the licence; empty for an unknown file."""
    file = described(name)
    return f"{file.name}: {file.part}, {file.licence}" if file else ""


def missing(name: str, searched: Iterable[Path], put_into: Path) -> str:
    """The sentence for a file that is not there: what it is, its size and terms, where from and where to."""
    file = described(name)
    where = ", ".join(str(folder) for folder in searched) or "no folder"
    if file is None:
        return f"There is no model file {name!r} in {where}. Put it into {put_into}, or choose another file."
    size = f", {file.size / 1e6:,.0f} MB" if file.size else ""
    return (
        f"{file.name} is missing ({file.part}{size}; licence: {file.licence}). "
        f"Fetch it from {file.page} and put it into {put_into}. Searched: {where}."
    )


def below(folder: Path, relative: str, *, confined: bool = False) -> Path | None:
    """``folder / relative``, each part matched without regard to case; None where it is not there.

    A space at the end of a name is overlooked: a pack once fetched a file under such a name (peers 2.6).
    A path that would lead out of the folder (``..``, absolute, a drive letter) is not there either.
    confined: nor is what lies behind a link that leads out; it is not even looked at.
    """
    here = folder
    for part in PurePosixPath(relative.replace("\\", "/")).parts:
        if part in ("..", "/", "//") or ":" in part:
            return None
        entries = _entries(here)
        same = (p for p in entries if p.name == part)
        alike = (p for p in entries if p.name.rstrip().casefold() == part.casefold())
        found = next(chain(same, alike), None)
        if found is None or (confined and not found.resolve().is_relative_to(folder.resolve())):
            return None
        here = found
    return here


def find(name: str, folders: Iterable[Path]) -> Path | None:
    """The first file of that name in the folders, without regard to case."""
    hits = (below(folder, name) for folder in folders)
    return next((hit for hit in hits if hit is not None and hit.is_file()), None)


def neighbours(custom_nodes: Iterable[Path], environ: Mapping[str, str] = os.environ) -> list[Path]:
    """Existing folders of other packs that may hold files of the table, in the order of preference."""
    roots = list(custom_nodes)
    found = [below(root, relative) for root in roots for relative in NEIGHBOURS]
    found += [below(base, folder) for base in _aux_bases(roots, environ) for folder in AUX_FOLDERS]
    return list(dict.fromkeys(path for path in found if path is not None and path.is_dir()))


def _aux_bases(roots: Iterable[Path], environ: Mapping[str, str]) -> Iterator[Path]:
    """The checkpoint folders that controlnet_aux was told to use, by its variable or its config.yaml."""
    if environ.get("AUX_ANNOTATOR_CKPTS_PATH"):
        yield Path(environ["AUX_ANNOTATOR_CKPTS_PATH"])
    for root in roots:
        pack = below(root, AUX_PACK)
        config = pack / "config.yaml" if pack else None
        for line in _lines(config) if config else ():
            key, _, value = line.partition(":")
            if key.strip() == "annotator_ckpts_path" and value.strip():
                yield pack / value.split(" #")[0].strip().strip("\"'")


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []
