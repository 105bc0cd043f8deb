"""File names that every system takes."""

from __future__ import annotations

import hashlib
import os
from pathlib import PureWindowsPath

DEVICES = frozenset(
    {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$", "CLOCK$"}
    | {f"{port}{number}" for port in ("COM", "LPT") for number in "0123456789¹²³"}
)
"""Names that Windows keeps for devices, with any ending."""

FORBIDDEN = frozenset('<>:"|?*') | {chr(code) for code in range(32)}
LONGEST_PATH = 259
"""Characters of a whole path on a Windows without long paths."""

LONGEST_STEM = 120
"""Bytes of a name without suffix; file systems take 255, and numbers and suffixes are still to come."""

WINDOWS = os.name == "nt"


def windows_problem(path: str) -> str | None:
    """Why Windows would not take a path, in a phrase; None where it would."""
    pure = PureWindowsPath(path)
    for part in pure.parts[1 if pure.anchor else 0 :]:
        if part.split(".")[0].rstrip().upper() in DEVICES:
            return f"{part!r} is the name of a device"
        if bad := sorted(FORBIDDEN & set(part)):
            return f"{part!r} holds {bad[0]!r}, which no name may"
        if part.endswith((" ", ".")) and part != "..":
            return f"{part!r} ends in a space or a dot"
    if len(path) > LONGEST_PATH:
        return f"it has {len(path)} characters, and {LONGEST_PATH} are allowed"
    return None


def check(path: str, *, windows: bool = WINDOWS) -> None:
    """Raise ValueError for a path that this system would refuse with a riddle or, worse, write elsewhere."""
    if "\0" in path:
        raise ValueError(f"{path!r} cannot be a file's name: it holds a zero byte, which no system takes.")
    problem = windows_problem(path) if windows else None
    if problem:
        raise ValueError(f"{path} cannot be a file on Windows: {problem}. Choose another name.")


def check_prefix(prefix: str, *, windows: bool = WINDOWS) -> None:
    """``check`` for a name below the output folder, which may hold folders but no drive and no root."""
    if any(ord(letter) < 32 for letter in prefix):
        raise ValueError(
            f"{prefix!r} cannot be a file's name: it holds a line's end or another unprintable letter."
        )
    if any("\ud800" <= letter <= "\udfff" for letter in prefix):
        raise ValueError(
            f"{prefix!r} cannot be a file's name: it holds half a letter, which no text can hold."
        )
    if windows and PureWindowsPath(prefix).anchor:
        raise ValueError(f"{prefix!r} leads out of the output folder; give a name without drive and root.")
    check(prefix, windows=windows)


def short(stem: str, longest: int = LONGEST_STEM) -> str:
    """The stem itself, or where it is longer than so many bytes its beginning and 8 digits of its hash."""
    encoded = stem.encode()
    if len(encoded) <= longest:
        return stem
    digits = hashlib.sha256(encoded).hexdigest()[:8]
    return f"{encoded[: longest - 9].decode(errors='ignore')}-{digits}"
