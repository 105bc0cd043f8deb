"""How a sampler goes about a long run: what it keeps of it on disk, and how much it does at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from ..video_core.progress import NOWHERE, Journal
from . import host, paths, sockets
from .api import chosen, io, schema

if TYPE_CHECKING:
    from ..video_core.guidance import Together

Settings = TypeVar("Settings")

BRANCHES: dict[str, Together | None] = {
    "as the sampler says": None,
    "auto": "auto",
    "together": True,
    "one after the other": False,
}


@dataclass(frozen=True)
class RunOptions:
    """resume: keep what is done, and go on with a run that was cut off. keep_every: steps after which a state is
    kept. together: of both branches of guidance, None leaves it to the sampler.
    """

    resume: bool = False
    keep_every: int = 1
    together: Together | None = None

    def over(self, settings: Settings) -> Settings:
        """A sampler's settings with these choices."""
        return settings if self.together is None else replace(settings, together=self.together)

    def journal(self, decides: Callable[[], Sequence[object]]) -> Journal:
        """Where a run is kept. decides: all that its latents hang on; asked for only where it is kept."""
        from ..app.state import Runs, identity, place

        if not self.resume:
            return NOWHERE
        runs = Runs.at(place(paths.user_folder()), self.keep_every)
        runs.forget_old()
        return runs.run("nodes", str(host.device()), *map(identity, decides()))


PLAIN = RunOptions()
"""Nothing is kept; the sampler's own widgets count."""


class RunOptionsNode(io.ComfyNode):
    """Options that both samplers take."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "RunOptions",
            display_name="Run options",
            menu="sampling",
            description="For long runs of either sampler: keeps what is done, so that a run that was cancelled or cut "
            "off goes on where it stopped, to the same bits; and decides by the free memory how much is done at once.",
            inputs=[
                io.Boolean.Input(
                    "resume",
                    default=False,
                    tooltip="Keep latents in ComfyUI's user folder, at most 10 GB and for a week, and go on with a "
                    "run of the same inputs that was cut off.",
                ),
                io.Int.Input(
                    "keep_every",
                    default=1,
                    min=1,
                    max=1000,
                    tooltip="Steps after which a state is kept; finished segments always are.",
                ),
                io.Combo.Input(
                    "branches",
                    options=list(BRANCHES),
                    default=next(iter(BRANCHES)),
                    tooltip="Both branches of guidance in one pass, or one after the other with less memory; auto "
                    "takes one pass where the free memory allows, instead of the sampler's together.",
                ),
            ],
            outputs=[sockets.RunOptions.Output(display_name="run", tooltip="For either sampler.")],
            search_aliases=["resume", "checkpoint", "continue", "crash", "low vram", "long video"],
        )

    @classmethod
    def execute(cls, resume: bool, keep_every: int, branches: str) -> io.NodeOutput:
        return io.NodeOutput(RunOptions(resume, keep_every, chosen(BRANCHES, branches, "branches")))


NODES = (RunOptionsNode,)
