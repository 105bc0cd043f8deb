"""Pictures of results: labelled columns side by side, and contact sheets of a clip."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

PADDING = 2
"""Black pixels between and around columns (X-Dyna spec 9.6)."""

LABEL_HEIGHT = 22


def columns(pictures: Sequence[np.ndarray], padding: int = PADDING) -> np.ndarray:
    """uint8 [H', W', 3] of pictures uint8 [H, W, 3] in a row, all brought to the first one's height.

    A single picture comes back unchanged, as in the original's grid.
    """
    import cv2

    if len(pictures) == 1:
        return pictures[0]
    height = pictures[0].shape[0]
    row = []
    for picture in pictures:
        if picture.shape[0] != height:
            width = max(1, round(picture.shape[1] * height / picture.shape[0]))
            picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
        row.append(np.pad(picture, ((padding, padding), (padding, 0), (0, 0))))
    return np.pad(np.concatenate(row, axis=1), ((0, 0), (0, padding), (0, 0)))


def labelled(picture: np.ndarray, label: str) -> np.ndarray:
    """The picture uint8 [H, W, 3] under a strip of ``LABEL_HEIGHT`` pixels that says what it is."""
    import cv2

    strip = np.full((LABEL_HEIGHT, picture.shape[1], 3), 24, np.uint8)
    (width, _), _ = cv2.getTextSize(label, cv2.FONT_HERSHEY_SIMPLEX, 1.0, 1)
    scale = min(0.45, (picture.shape[1] - 6) / max(width, 1))
    cv2.putText(
        strip, label, (3, LABEL_HEIGHT - 7), cv2.FONT_HERSHEY_SIMPLEX, scale, (235, 235, 235), 1, cv2.LINE_AA
    )
    return np.concatenate([strip, picture])


def grid_frames(clips: Mapping[str, Iterable[np.ndarray]], labels: bool = True) -> Iterator[np.ndarray]:
    """Frames of a grid video: one column per clip, in order, as long as the shortest clip.

    clips: label -> frames uint8 [H, W, 3]; read as streams, one frame of each at a time.
    """
    for frames in zip(*clips.values(), strict=False):
        if labels:
            frames = [labelled(frame, label) for frame, label in zip(frames, clips, strict=True)]
        yield columns(frames)


def contact_sheet(clips: Mapping[str, Sequence[np.ndarray]], rows: int = 6, height: int = 256) -> np.ndarray:
    """uint8 [H', W', 3]: frames spread evenly over the clips, one row each, one labelled column per clip.

    clips: label -> frames uint8 [H, W, 3]; a clip of one frame (the reference) stands in every row.
    """
    import cv2

    if not clips:
        raise ValueError("A contact sheet needs at least one clip.")
    length = max(len(frames) for frames in clips.values())
    chosen = np.unique(np.linspace(0, length - 1, min(rows, length)).round().astype(int))
    sheet = []
    for number, index in enumerate(chosen):
        row = []
        for label, frames in clips.items():
            frame = frames[min(int(index), len(frames) - 1)]
            width = max(1, round(frame.shape[1] * height / frame.shape[0]))
            frame = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
            row.append(labelled(frame, label) if number == 0 else frame)
        sheet.append(columns(row))
    return np.concatenate(sheet)
