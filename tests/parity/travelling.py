"""Makes the small golden set that travels with the project out of a whole one.

    python tests/parity/travelling.py ../shared/golden tests/golden

A machine without the whole set still proves the essentials of both systems: every kind of block of the
networks with its norms, schedules, solvers, windows, noise, alignment and drawing, preprocessing.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

TRAVELS: Mapping[str, tuple[str, ...]] = {
    "unianimate/blocks_temporal": ("*",),
    "unianimate/context_windows": (),
    "unianimate/diffusion": ("*",),
    "unianimate/dwpose": ("image_bgr", "convert.*", "posedict.*", "*nms.*", "pose.boxes", "pose.empty.*"),
    "unianimate/extras_norms": ("*resblock_change.*", "*spatial_transformer.*", "*head.*", "*tower_*"),
    "unianimate/pose_align": ("full_same_size.*.[!c]*", "drop_later_frames.*.[!c]*", "shoulder*.*.[!c]*"),
    "unianimate/preprocess": ("pose_rgb",),
    "xdyna/context_windows": (),
    "xdyna/ddim": ("alphas_cumprod", "timesteps_*", "n3.*", "n4.*"),
    "xdyna/extras_controls": ("upscale.*",),
    "xdyna/extras_norms": ("transformer.*", "resnet_same.*", "head.*"),
    "xdyna/extras_sface": ("image", "rounding.*", "window_at_negative_coordinates_0.*"),
    "xdyna/ip_attention": ("*",),
    "xdyna/mixed_attention": ("*",),
    "xdyna/motion_module": ("weights.*", "case[23].*"),
    "xdyna/noise_init": ("case2.*",),
    "xdyna/preprocess": ("*.3.in", "*.3.out"),
    "xdyna/resampler": ("weights.*", "[xy]2"),
}
"""File -> the tensors that travel, by pattern. The json keeps what it says about those, and what is about no
tensor at all."""

EVERY: Mapping[str, Mapping[str, int]] = {
    "unianimate/context_windows": {"rows": 9, "extra": 4},
    "xdyna/context_windows": {"cases": 19},
}
"""File -> list in its json -> every which row travels."""


def main(source: Path, target: Path) -> None:
    """Write the travelling set of ``source`` into ``target``, over what is there under the same names."""
    for file, patterns in TRAVELS.items():
        meta = json.loads((source / f"{file}.json").read_text())
        for name, step in EVERY.get(file, {}).items():
            meta[name] = meta[name][::step]
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        if patterns:
            meta = copy_tensors(
                source / f"{file}.safetensors", target / f"{file}.safetensors", patterns, meta
            )
        (target / f"{file}.json").write_text(json.dumps(meta) + "\n")
        copy_pictures(source / file, target / file, meta)
    shutil.copy(source / "tolerances.json", target)


def copy_tensors(source: Path, target: Path, patterns: tuple[str, ...], meta: Any) -> Any:
    """Copy the tensors whose names match; returns the json without its entries about the others."""
    tensors = load_file(source)
    kept = {name: tensor for name, tensor in tensors.items() if any(fnmatch(name, p) for p in patterns)}
    save_file(kept, target)
    return without(meta, set(tensors) - set(kept), set(kept))


def without(meta: Any, left: set[str], kept: set[str]) -> Any:
    """A json value without the entries (keys, or rows with a name) that are about left tensors alone."""

    def stays(name: str) -> bool:
        return not any(about(name, tensor) for tensor in left) or any(about(name, tensor) for tensor in kept)

    if isinstance(meta, dict):
        return {name: without(value, left, kept) for name, value in meta.items() if stays(name)}
    if isinstance(meta, list):
        rows = (row for row in meta if not isinstance(row, dict) or stays(row.get("name", "")))
        return [without(row, left, kept) for row in rows]
    return meta


def about(name: str, tensor: str) -> bool:
    """Whether an entry of that name is about the tensor: its own, or its case's, or its block's weights'."""
    return tensor == name or tensor.startswith((f"{name}.", f"weights.{name}."))


def copy_pictures(source: Path, target: Path, meta: dict[str, Any]) -> None:
    """Copy the pictures that the cases of a json name."""
    cases = meta.get("cases", {})
    for case in cases.values() if isinstance(cases, dict) else ():
        for picture in case.get("png", []) if isinstance(case, dict) else ():
            (target.parent / "pose_png").mkdir(exist_ok=True)
            shutil.copy(source.parent / "pose_png" / picture, target.parent / "pose_png")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
