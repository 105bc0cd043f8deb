"""What an animation will take on this machine, and what to change where it will not fit."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from ..video_core.fast import EXACT, Fast
from . import host, page, paths, sockets
from .api import advanced, chosen, io, schema, ui
from .run_options import BRANCHES

if TYPE_CHECKING:
    from ..app.systems import UniAnimate, XDyna

PUBLISHED = "published"
"""The entry of the list of weights that is not the embedded ones."""

SYSTEMS = ("unianimate", "xdyna")
MODES = {mode: mode for mode in ("auto", "short", "windows", "continuation")}
"""Of UniAnimate."""


class Estimate(io.ComfyNode):
    """``animate --dry-run`` on the canvas."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "Estimate",
            display_name="Estimate",
            menu="tools",
            description="Says what an animation will take on this machine before anything is loaded: memory, disk, "
            "work and time; and where it will not fit, which settings to change, with what is needed then.",
            inputs=[*_clip_inputs(), *_sampling_inputs()],
            outputs=[
                io.Boolean.Output(display_name="fits", tooltip="Whether it should run as it is."),
                io.String.Output(
                    display_name="report", tooltip="The same for a person, with what to change."
                ),
                io.String.Output(
                    display_name="json", tooltip="The same for a script: bytes, seconds, TFLOP."
                ),
            ],
            is_output_node=True,
            hidden=[io.Hidden.unique_id],
            needs=("diffusers", "cv2"),
            search_aliases=["vram", "memory", "how long", "out of memory", "dry run", "budget"],
        )

    @classmethod
    def execute(
        cls,
        system: str,
        weights: str,
        width: int,
        height: int,
        frames: int,
        steps: int,
        window: int,
        overlap: int,
        mode: str,
        guided: bool,
        batch: int,
        branches: str,
        precision: str,
        measure: bool,
        fast: Fast = EXACT,
    ) -> io.NodeOutput:
        from ..app.estimate import estimate
        from ..app.remedies import WIDGETS
        from ..app.stages import Asked
        from ..app.systems import Sampling

        demo = weights == paths.DEMO
        own, parameters = _system_and_size(system, mode)
        sampling = Sampling(
            (width, height),
            steps or None,
            None if guided else _UNGUIDED[system],
            window=window or None,
            overlap=None if overlap < 0 else overlap,
            batch=batch,
            together=chosen(BRANCHES, branches, "branches"),
            **asdict(fast),
        )
        dtype = host.dtype(precision, 0 if demo else parameters)
        asked = Asked(own, sampling, frames, demo, host.device(), dtype, precision == host.FP8)
        found = estimate(asked, free=host.free_memory(), words=WIDGETS, clock=measure)
        text = "\n".join([f"{frames} frames on {host.device()}", *found.lines()])
        page.say(text, cls.hidden.unique_id)
        details = json.dumps({"fits": found.fits, **asdict(found)}, indent=1)
        return io.NodeOutput(found.fits, text, details, ui=ui.PreviewText(text))

    @classmethod
    def fingerprint_inputs(cls, **inputs: object) -> float:
        """Never the same: the free memory changes."""
        return float("nan")


_UNGUIDED = {"unianimate": 1.0, "xdyna": 0.0}
"""Guidance with which a system runs one branch."""


def _system_and_size(system: str, mode: str) -> tuple[UniAnimate | XDyna, int]:
    """The system as it is chosen, and the parameters of its published network."""
    from ..app.systems import UniAnimate, XDyna
    from .unianimate import PARAMETERS
    from .xdyna import UNET_PARAMETERS

    if system == "unianimate":
        return UniAnimate(chosen(MODES, mode, "mode")), PARAMETERS
    return chosen({"xdyna": XDyna}, system, "system")(), UNET_PARAMETERS


def _clip_inputs() -> list[io.Input]:
    size = {"min": 64, "max": 4096, "step": 64}
    return [
        io.Combo.Input(
            "system", options=list(SYSTEMS), default=SYSTEMS[0], tooltip="Which of the two samplers."
        ),
        io.Combo.Input(
            "weights",
            options=[PUBLISHED, paths.DEMO],
            default=PUBLISHED,
            tooltip="Networks of the published size, or the embedded ones.",
        ),
        io.Int.Input("width", default=512, **size, tooltip="Width of the clip in pixels."),
        io.Int.Input("height", default=768, **size, tooltip="Height of the clip in pixels."),
        io.Int.Input("frames", default=32, min=1, max=100_000, tooltip="Frames of the clip."),
    ]


def _sampling_inputs() -> list[io.Input]:
    return [
        io.Int.Input("steps", default=0, min=0, max=1000, tooltip="As in the sampler; 0 as published."),
        io.Int.Input("window", default=0, min=0, max=256, tooltip="Frames of a window; 0 as published."),
        io.Int.Input(
            "overlap", default=-1, min=-1, max=255, tooltip="Frames that windows share; -1 as published."
        ),
        io.Combo.Input(
            "mode",
            options=list(MODES),
            default="auto",
            tooltip="Of UniAnimate; auto is one piece up to the length of a window, then windows.",
        ),
        io.Boolean.Input(
            "guided", default=True, tooltip="With guidance; off, one branch runs in place of two."
        ),
        io.Int.Input("batch", default=1, min=1, max=64, tooltip="Windows in one pass of the network."),
        io.Combo.Input(
            "branches",
            options=list(BRANCHES),
            default=next(iter(BRANCHES)),
            tooltip="Both branches of guidance in one pass or not, as in Run options.",
        ),
        io.Combo.Input(
            "precision",
            options=list(host.STORAGE_TOO),
            default="auto",
            tooltip="As in the loader of the network.",
        ),
        advanced(
            io.Boolean.Input,
            "measure",
            default=True,
            tooltip="Run one call of each stage with random weights to tell the time. Off: no time is told.",
        ),
        sockets.Fast.Input("fast", optional=True, tooltip="From Fast mode."),
    ]


NODES = (Estimate,)
