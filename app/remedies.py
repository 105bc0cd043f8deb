"""What to change where a run needs more memory than there is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from .stages import Asked, stages_of
from .systems import UniAnimate

if TYPE_CHECKING:
    from .estimate import Estimate

FLAGS = {
    "together": "--together off",
    "batch": "--context-batch 1",
    "fp8": "--precision fp8",
    "tiles": "Decoding in tiles, which begins by itself where memory runs out",
    "window": "--context-size {}",
    "windows": "--mode windows --context-size {}",
    "size": "--resolution {}x{}",
}
WIDGETS = {
    "together": "together off",
    "batch": "batch 1",
    "fp8": "precision fp8",
    "tiles": "VAE Decode (Tiled)",
    "window": "window {}",
    "windows": "mode windows, window {}",
    "size": "width {}, height {}",
}
"""How settings are called on the command line, and on the canvas."""


@dataclass(frozen=True)
class Change:
    """name, values: of the setting in ``FLAGS``. asked: with it. costs: what is given up."""

    name: str
    values: tuple[int, ...]
    asked: Asked
    costs: str


def advice(
    asked: Asked,
    found: Estimate,
    free: int | None,
    words: Mapping[str, str],
    memory: Callable[[Asked], Estimate],
) -> tuple[str, ...]:
    """What to change where ``free`` bytes are not enough, the least harm first, each on top of those before and
    with what is needed then; nothing where they are enough.

    words: how settings are called. memory: estimates a request.
    """
    if free is None or found.needed <= free:
        return ()
    said = [
        f"This needs {_gb(found.needed)} and {_gb(free)} are free. What helps, each on top of those before:"
    ]
    for changed in CHANGES:
        change = changed(asked)
        then = found if change is None else memory(change.asked)
        if then.needed >= found.needed:
            continue
        asked, found = change.asked, then
        said.append(f"{words[change.name].format(*change.values)}: {_gb(found.needed)} ({change.costs}).")
        if found.needed <= free:
            return (*said, "That fits.")
    return (*said, "None of it is enough: take a device with more memory.")


def _one_branch(asked: Asked) -> Change | None:
    if not asked.settings.sampling.together:
        return None
    return Change("together", (), _sampled(asked, together=False), "the same result, slower")


def _one_window(asked: Asked) -> Change | None:
    if asked.sampling.batch == 1:
        return None
    return Change("batch", (), _sampled(asked, batch=1), "the same result, slower")


def _tiles(asked: Asked) -> Change:
    return Change("tiles", (), replace(asked, tiled=True), "seams are blended")


def _eight_bits(asked: Asked) -> Change:
    return Change("fp8", (), replace(asked, fp8=True), "weights are off by a sixteenth at most")


def _smaller_window(asked: Asked, window: int) -> Change | None:
    """A clip in one piece has windows from then on."""
    if window >= stages_of(asked).at_once():
        return None
    name, overlap = "window", min(asked.settings.sampling.overlap, window // 2)
    if isinstance(asked.system, UniAnimate) and asked.system.mode == "short":
        asked, name = replace(asked, system=replace(asked.system, mode="windows")), "windows"
    return Change(name, (window,), _sampled(asked, window=window, overlap=overlap), "more seams, slower")


def _smaller_picture(asked: Asked, share: float) -> Change:
    width, height = (max(64, int(side * share) // 64 * 64) for side in asked.settings.size)
    return Change("size", (width, height), _sampled(asked, size=(width, height)), "a smaller picture")


def _sampled(asked: Asked, **changes: Any) -> Asked:
    return replace(asked, sampling=replace(asked.sampling, **changes))


def _gb(count: float) -> str:
    return f"{count / 1e9:.2f} GB"


CHANGES: tuple[Callable[[Asked], Change | None], ...] = (
    _one_branch,
    _one_window,
    _tiles,
    _eight_bits,
    *(partial(_smaller_window, window=window) for window in (24, 16, 12, 8)),
    *(partial(_smaller_picture, share=share) for share in (3 / 4, 2 / 3)),
)
"""From those that change no result to those that change most; the last comes on top of the one before."""
