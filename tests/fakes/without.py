"""What the pack can do where a library is missing: ``python -m tests.fakes.without LIBRARY...``.

For each library, hidden in this process: which nodes say in the list that they cannot run, which nodes fail when
they are run, and with what sentence, what other nodes cannot be reached for that, and what the doctor says. The
answer is one line of JSON.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from . import comfy_host
from .executor import Executor, Prompt
from .hidden import hidden
from .prompts import unianimate_told

DEMO = "demo (embedded)"
SIZE = {"width": 64, "height": 64}
SPAN = {"strength": 1.0, "start_percent": 0.0, "end_percent": 1.0, "stretch": "none"}
DRAWN = {
    "style": "xdyna", "scale_strokes": True, "jpeg": False, "hands": True, "feet": True, "head": True, "face": False,
}  # fmt: skip
FOUND = {
    "person": "largest", "fill_gaps": 5, "smooth": False, "interval": 1, "max_frames": 0, "fps": 8.0, "number": 0,
}  # fmt: skip
STRENGTHS = {
    f"{what}_{which}": value
    for what in ("adapter", "image_prompt")
    for which, value in (("strength", 1.0), ("start_percent", 0.0), ("end_percent", 1.0))
}


class CoreVae:
    """What nodes may count on of core's VAE."""

    latent_channels = 4

    def encode(self, pixels):
        small = F.avg_pool2d(pixels[..., :3].movedim(-1, 1), 8)
        return F.pad(small, (0, 0, 0, 0, 0, 1))

    def decode(self, samples):
        return F.interpolate(samples[:, :3], scale_factor=8).movedim(1, -1).clamp(0, 1)


class GiveCoreVae:
    """A loader of another pack."""

    INPUT_TYPES = classmethod(lambda cls: {"required": {}})
    RETURN_TYPES = ("VAE",)
    FUNCTION = "give"

    def give(self):
        return (CoreVae(),)


class Show:
    """An output node for anything."""

    INPUT_TYPES = classmethod(lambda cls: {"required": {"anything": ("*",)}})
    RETURN_TYPES = ()
    OUTPUT_NODE = True
    FUNCTION = "show"

    def show(self, anything):
        return ()


class Lost:
    """The output of a node that could not run."""


class Forgiving(Executor):
    """Goes on with the others where a node fails; ``failed`` is why, ``unreached`` what depends on it."""

    def __init__(self, classes) -> None:
        super().__init__(classes)
        self.failed: dict[str, str] = {}
        self.unreached: list[str] = []

    def _execute(self, prompt, node_id, run, extra_pnginfo) -> tuple[tuple, dict]:
        node = prompt[node_id]
        lost = (Lost(),) * 10, {}
        given = (run.outputs[v[0]][v[1]] for v in node["inputs"].values() if isinstance(v, list))
        if any(isinstance(value, Lost) for value in given):
            self.unreached.append(node["class_type"])
            return lost
        try:
            return super()._execute(prompt, node_id, run, extra_pnginfo)
        except RuntimeError as error:
            self.failed[node["class_type"]] = f"{type(error.__cause__).__name__}: {error.__cause__}"
            return lost


def node(class_type: str, /, **inputs) -> dict[str, Any]:
    kind = class_type if class_type in ("VAEEncode", "CLIPTextEncode") else f"XDUA_{class_type}"
    return {"class_type": kind, "inputs": inputs}


def everything() -> Prompt:
    """Every node once, and none behind another that it does not need: pictures come from files, the VAE from core."""
    sampling = {
        "steps": 1,
        "guidance": 1.0,
        "window": 2,
        "overlap": 1,
        "fuse": "uniform",
        "strength": 1.0,
        "batch": 1,
    }
    pictures = {"width": 64, "height": 64}
    prompt = {
        "demo": node("DemoInputs", frames=2),
        "detector": node("LoadPoseDetector", detector=DEMO, device="cpu"),
        "found": node("ExtractPose", detector=["detector", 0], images=["demo", 1], **FOUND),
        "aligned": node(
            "AlignPose", driving=["demo", 3], reference=["demo", 4], fidelity="robust", median=False
        ),
        "drawn": node("DrawPose", poses=["demo", 3], **pictures, **DRAWN),
        "keypoints": node("PoseToKeypoints", poses=["demo", 3], dialect="aux", real_scores=False),
        "back": node(
            "KeypointsToPose", keypoints=["keypoints", 0], person="largest", fps=8.0, number=0, width=0, height=0
        ),
        "saved": node("SavePose", poses=["back", 0], filename_prefix="poses/x", format=".npz"),
        "loaded": node("LoadPose", file=DEMO),
        "our_vae": node("LoadVae", vae=DEMO, precision="fp32"),
        "encoded": node("VAEEncode", pixels=["demo", 1], vae=["our_vae", 0]),
        "vae": {"class_type": "GiveCoreVae", "inputs": {}},
        "clip": node("LoadClip", clip=DEMO, precision="fp32"),
        "vision": node("LoadClipVision", clip_vision=DEMO, precision="fp32"),
        "fast": node("FastMode", solver="ddim", guided_from=0.0, guided_until=1.0, reuse_every=1, compile=False),
        "unianimate": node("LoadUniAnimate", unet=DEMO, precision="fp32"),
        **unianimate_told("unianimate", "u_told", "u_noise", SIZE),
        "u_clip": node(
            "UniAnimateSampler", unianimate=["unianimate", 0], conditions=["u_told", 0], noise=["u_noise", 0],
            mode="continuation", together=False, fast=["fast", 0], **sampling,
        ),
        "xdyna": node(
            "LoadXDyna", unet=DEMO, base="none", motion_module="none", ip_adapter="none", precision="fp32"
        ),
        "text": node("CLIPTextEncode", text="", clip=["clip", 0]),
        "x_told": node(
            "XDynaConditioning", xdyna=["xdyna", 0], clip_vision=["vision", 0], vae=["vae", 0],
            reference=["demo", 0], positive=["text", 0], negative=["text", 0], **SIZE,
        ),
        "pose_net": node("LoadXDynaControlNet", kind="pose", controlnet=DEMO, precision="fp32"),
        "face_net": node("LoadXDynaControlNet", kind="face", controlnet=DEMO, precision="fp32"),
        "posed": node(
            "ApplyPoseControl", conditions=["x_told", 0], controlnet=["pose_net", 0], poses=["demo", 1], **SPAN
        ),
        "maps": node("FaceMaps", frames=["demo", 1], poses=["demo", 3], fidelity="original", **SIZE),
        "faced": node(
            "ApplyFaceControl", conditions=["x_told", 0], controlnet=["face_net", 0], local=["demo", 1],
            whole=["demo", 1], **SPAN,
        ),
        "strengths": node("XDynaStrengths", conditions=["x_told", 0], **STRENGTHS),
        "empty": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 2}},
        "x_clip": node(
            "XDynaSampler", xdyna=["xdyna", 0], conditions=["strengths", 0], latent=["empty", 0], seed=1,
            loop="open", noise="per frame", together=True, **sampling,
        ),
        "x_both": node(
            "XDynaSampler", xdyna=["xdyna", 0], conditions=["posed", 0], seed=1, loop="open", noise="per frame",
            together=True, **sampling,
        ),
        "video": node(
            "EncodeVideo", images=["demo", 1], fps=8.0, format="mp4 (h264)", filename_prefix="x",
            save_workflow=False, crf=-1,
        ),
        "grid": node("GridCompare", images_1=["demo", 1], labels="", images_2=["demo", 0]),
        "measured": node(
            "EvaluateResult", images=["demo", 1], truth=["demo", 1], conditions="", stop_if_missed=False,
            filename_prefix="", window_size=0, window_overlap=8,
        ),
        "doctor": node("Doctor", hashes=False),
        "estimate": node(
            "Estimate", system="xdyna", weights=DEMO, frames=2, steps=1, window=0, overlap=-1, mode="auto", guided=True,
            batch=1, branches="auto", precision="fp32", measure=False, **SIZE,
        ),
        "run": node("RunOptions", resume=False, keep_every=1, branches="auto"),
        "download": node("DownloadModels", files="dwpose", download=False, accept_licence=False),
    }  # fmt: skip
    sinks = {
        f"show {name}": {"class_type": "Show", "inputs": {"anything": [name, 0]}}
        for name in prompt
        if name not in ("video", "measured", "doctor", "download", "saved", "estimate")
    }
    return {**prompt, **sinks}


def tried(base: Path) -> dict[str, Any]:
    """What there is and what runs, as things are now."""
    with comfy_host.running(base) as host:
        from xdyna_unianimate import nodes

        left_out = nodes.load()[1]
        schemas = {name: cls.GET_SCHEMA() for name, cls in host.pack.items()}
        executor = Forgiving({**host.classes, "Show": Show, "GiveCoreVae": GiveCoreVae})
        run = executor.run(everything())
        said = run.outputs["doctor"][0]
    return {
        "left_out": left_out,
        "marked": {
            name: [s.display_name, s.description]
            for name, s in schemas.items()
            if "missing)" in s.display_name
        },
        "failed": executor.failed,
        "unreached": sorted(name for name in set(executor.unreached) if name.startswith("XDUA_")),
        "nodes": sorted(schemas),
        "doctor": said,
    }


def forget() -> None:
    """The pack's modules, so that they are imported anew."""
    for name in [name for name in sys.modules if name.split(".")[0] == "xdyna_unianimate"]:
        del sys.modules[name]


def main() -> None:
    torch.set_num_threads(1)
    found = {}
    for library in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as base, hidden(library):
            found[library] = tried(Path(base))
        forget()
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
