"""Pictures of results: labelled columns side by side, and contact sheets of a clip."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

PADDING = 2
"""Black pixels between and around columns (X-Dyna spec 9.6)."""

LABEL_HEIGHT = 22
LABEL_COLOUR, LABEL_GROUND = (235, 235, 235), 24


def at_height(picture: np.ndarray, height: int) -> np.ndarray:
    """The picture uint8 [H, W, 3] at another height, its proportions kept."""
    import cv2

    if picture.shape[0] == height:
        return picture
    width = max(1, round(picture.shape[1] * height / picture.shape[0]))
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)


def columns(pictures: Sequence[np.ndarray], padding: int = PADDING) -> np.ndarray:
    """uint8 [H', W', 3] of pictures uint8 [H, W, 3] in a row, all brought to the first one's height.

    A single picture comes back unchanged, as in the original's grid.
    """
    if len(pictures) == 1:
        return pictures[0]
    row = [at_height(picture, pictures[0].shape[0]) for picture in pictures]
    row = [np.pad(picture, ((padding, padding), (padding, 0), (0, 0))) for picture in row]
    return np.pad(np.concatenate(row, axis=1), ((0, 0), (0, padding), (0, 0)))


def labelled(picture: np.ndarray, label: str) -> np.ndarray:
    """The picture uint8 [H, W, 3] under a strip of ``LABEL_HEIGHT`` pixels that says what it is."""
    import cv2

    strip = np.full((LABEL_HEIGHT, picture.shape[1], 3), LABEL_GROUND, np.uint8)
    (width, _), _ = cv2.getTextSize(label, cv2.FONT_HERSHEY_SIMPLEX, 1.0, 1)
    scale = min(0.45, (picture.shape[1] - 6) / max(width, 1))
    at = (3, LABEL_HEIGHT - 7)
    cv2.putText(strip, label, at, cv2.FONT_HERSHEY_SIMPLEX, scale, LABEL_COLOUR, 1, cv2.LINE_AA)
    return np.concatenate([strip, picture])


def overlaid(frames: Iterable[np.ndarray], skeletons: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Skeletons over darkened frames, uint8 RGB [H, W, 3] of one size; as many as the shorter of both."""
    for frame, skeleton in zip(frames, skeletons, strict=False):
        yield np.maximum(frame // 2, skeleton)


def grid_frames(clips: Mapping[str, Iterable[np.ndarray]], labels: bool = True) -> Iterator[np.ndarray]:
    """Frames of a grid video: one column per clip, in order, as long as the shortest clip.

    clips: label -> frames uint8 [H, W, 3]; read as streams, one frame of each at a time.
    """
    for frames in zip(*clips.values(), strict=False):
        row = [at_height(frame, frames[0].shape[0]) for frame in frames]
        if labels:
            row = [labelled(frame, label) for frame, label in zip(row, clips, strict=True)]
        yield columns(row)


def sheet_rows(length: int, rows: int = 6) -> list[int]:
    """Numbers of at most ``rows`` frames, spread evenly over a clip from the first to the last."""
    return sorted({round(number) for number in np.linspace(0, length - 1, min(rows, length))})


def contact_sheet(clips: Mapping[str, Sequence[np.ndarray]], rows: int = 6, height: int = 256) -> np.ndarray:
    """uint8 [H', W', 3]: frames spread evenly over the clips, one row each, one labelled column per clip.

    clips: label -> frames uint8 [H, W, 3]; a clip of one frame (the reference) stands in every row.
    """
    if not clips:
        raise ValueError("A contact sheet needs at least one clip.")
    length = max(len(frames) for frames in clips.values())
    sheet = []
    for number, index in enumerate(sheet_rows(length, rows)):
        row = [at_height(frames[min(index, len(frames) - 1)], height) for frames in clips.values()]
        if number == 0:
            row = [labelled(frame, label) for frame, label in zip(row, clips, strict=True)]
        sheet.append(columns(row))
    return np.concatenate(sheet)
