"""Which poses of a clip are animated (UniAnimate spec 2.1)."""

from __future__ import annotations

from typing import Literal

BLACK = -1
"""In place of a pose's number: a black pose frame, which is generated all the same."""


def choose_frames(
    poses: int,
    *,
    length: int | None = None,
    interval: int = 1,
    fidelity: Literal["robust", "original"] = "robust",
) -> list[int]:
    """Numbers of the poses to animate: 0, interval, 2 interval ..., at most ``length`` of them, None for all.

    F: where the clip has fewer, "robust" gives those. "original" takes a smaller interval, which changes the
    speed, and fills up with BLACK; its long flow stops with an error there, ours follows the short one.
    """
    if poses < 1:
        raise ValueError("The pose clip has no frames; give a clip with at least one.")
    if interval < 1 or (length is not None and length < 1):
        raise ValueError(f"Interval and length count frames from 1 up; {interval} and {length} were given.")
    if fidelity == "robust" or length is None or poses > interval * (length - 1):
        return list(range(0, poses, interval))[:length]
    stride = max((poses - 1) // (length - 1), 1)
    chosen = list(range(0, min(stride * length, poses), stride))
    return chosen + [BLACK] * (length - len(chosen))
