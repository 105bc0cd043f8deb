"""Full-size files on disk: what loading them costs in memory. Minutes and gigabytes; run with ``-m slow``."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from xdyna_unianimate.video_core.weights import Tensors, save_checkpoint
from xdyna_unianimate.xdyna_core import keys
from xdyna_unianimate.xdyna_core.config import ControlNetConfig, XDynaConfig
from xdyna_unianimate.xdyna_core.controlnet import ControlNet
from xdyna_unianimate.xdyna_core.image_prompt import Resampler
from xdyna_unianimate.xdyna_core.unet import XDynaUNet

PEAK = """
import json, sys
from pathlib import Path
from xdyna_unianimate.xdyna_core import load
def status(key):
    return next(int(l.split()[1]) * 1024 for l in open("/proc/self/status") if l.startswith(key))
load.ControlNet(load.ControlNetConfig(block_out_channels=(32,), attention_levels=(False,), norm_num_groups=8))
paths = [Path(p) for p in sys.argv[2:]]
open("/proc/self/clear_refs", "w").write("5")
before = status("VmRSS")
loader = getattr(load, sys.argv[1])
net = loader(paths) if sys.argv[1] == "load_unet" else loader(paths[0])
held = sum(t.numel() * t.element_size() for t in net.state_dict().values())
print(json.dumps([status("VmHWM") - before, sum(p.stat().st_size for p in paths), held]))
"""


class Synthetic(Tensors):
    """Half-precision tensors of given shapes, made when they are asked for."""

    def __init__(self, places: Mapping[str, Tensor]) -> None:
        self._shapes = {name: place.shape for name, place in places.items()}

    def __getitem__(self, name: str) -> Tensor:
        return torch.full(self._shapes[name], 0.01, dtype=torch.float16)

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)


def on_meta(build: Callable[[], nn.Module]) -> dict[str, Tensor]:
    with torch.device("meta"):
        return build().state_dict()


def ldm(state: Mapping[str, Tensor], modules: dict[str, str], prefix: str) -> dict[str, Tensor]:
    theirs = {ours: name for name, ours in modules.items()}
    return {prefix + keys.renamed(name, theirs): place for name, place in state.items()}


def unet_parts(folder: Path) -> list[Path]:
    """An LDM base, a pickled motion module, an IP-Adapter-plus, and the adapter alone: 2.7 GB."""
    places = on_meta(XDynaUNet)

    def part(*groups: str) -> dict[str, Tensor]:
        return {name: place for name, place in places.items() if keys.group_of(name).name in groups}

    numbered = {name: places[ours] for name, ours in keys.ip_adapter_names(XDynaConfig()).items()}
    image_proj = {f"image_proj.{name}": place for name, place in on_meta(Resampler).items()}
    base = ldm(part("SD1.5 UNet"), keys.ldm_unet_modules(XDynaConfig()), keys.LDM_UNET)
    torch.save(dict(Synthetic(part("motion module", "position table"))), folder / "mm_sd_v15.ckpt")
    return [
        save_checkpoint(folder / "v1-5-pruned.safetensors", Synthetic(base)),
        folder / "mm_sd_v15.ckpt",
        save_checkpoint(folder / "ip-adapter-plus.safetensors", Synthetic(numbered | image_proj)),
        save_checkpoint(folder / "xdyna.safetensors", Synthetic(part("Dynamics-Adapter"))),
    ]


def controlnet(folder: Path) -> list[Path]:
    """A pose ControlNet in LDM names: 0.7 GB."""
    places = on_meta(lambda: ControlNet().net)
    stored = ldm(places, keys.ldm_controlnet_modules(ControlNetConfig()), keys.LDM_CONTROLNET)
    return [save_checkpoint(folder / "pose.safetensors", Synthetic(stored))]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads Linux's peak memory")
@pytest.mark.parametrize(
    ("loader", "files"),
    [("load_unet", unet_parts), ("load_controlnet", controlnet)],
    ids=["unet", "controlnet"],
)
def test_peak_memory_is_at_most_1_3_times_the_files(
    loader: str, files: Callable[[Path], list[Path]], tmp_path: Path
) -> None:
    paths = files(tmp_path)
    try:
        command = [sys.executable, "-c", PEAK, loader, *map(str, paths)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    finally:
        for path in paths:
            path.unlink()
    peak, size, held = json.loads(done.stdout)
    print(f"{loader}: files {size / 1e9:.2f} GB, network {held / 1e9:.2f} GB, peak {peak / 1e9:.2f} GB")
    assert held > 0.7e9
    assert peak <= 1.3 * size
