"""Fast mode, for both samplers."""

from __future__ import annotations

from ..video_core.fast import EXACT, Fast
from ..video_core.solvers import SOLVERS
from . import sockets
from .api import io, schema

SHARE = {"min": 0.0, "max": 1.0, "step": 0.01}


class FastMode(io.ComfyNode):
    """Options of a run that is sooner and a little different."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "FastMode",
            display_name="Fast mode",
            menu="sampling",
            description="Makes a sampler faster at a small, measured difference: another solver with fewer steps, "
            "guidance in a part of the steps, coarse features shared by neighbouring steps, compiled layers. At its "
            "defaults it changes nothing.",
            inputs=[
                io.Combo.Input(
                    "solver",
                    options=list(SOLVERS),
                    default=EXACT.solver,
                    tooltip="ddim as published. dpmpp_2m and unipc are of second order: about half the steps do.",
                ),
                io.Float.Input(
                    "guided_from",
                    default=EXACT.guided_from,
                    **SHARE,
                    tooltip="Share of the steps from which guidance acts; the others cost half.",
                ),
                io.Float.Input(
                    "guided_until",
                    default=EXACT.guided_until,
                    **SHARE,
                    tooltip="Share of the steps until which guidance acts; 0.5 leaves it out of the second half.",
                ),
                io.Int.Input(
                    "reuse_every",
                    default=EXACT.reuse_every,
                    min=1,
                    max=10,
                    tooltip="The coarse levels of the network run in every n-th step, and the steps between "
                    "take what they made; 2 is hardly seen with many steps.",
                ),
                io.Boolean.Input(
                    "compile",
                    default=EXACT.compile,
                    tooltip="Compile the layers with torch.compile: the first run waits for minutes, later ones of "
                    "the same size are faster. Without a compiler nothing changes.",
                ),
            ],
            outputs=[sockets.Fast.Output(display_name="fast", tooltip="For either sampler.")],
            search_aliases=["speed", "dpm++", "unipc", "deepcache", "torch compile", "turbo"],
        )

    @classmethod
    def execute(
        cls, solver: str, guided_from: float, guided_until: float, reuse_every: int, compile: bool
    ) -> io.NodeOutput:
        return io.NodeOutput(Fast(solver, guided_from, guided_until, reuse_every, compile))


NODES = (FastMode,)
