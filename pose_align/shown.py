"""How values from strangers' files stand in errors: short, whatever they hold."""

from __future__ import annotations

import reprlib

LONGEST = 80
"""Characters of a value in an error."""

MOST_BITS = 128
"""Of a whole number that is written out: Python refuses to write those of more than 4300 digits."""


class _Short(reprlib.Repr):
    """A few parts of a list, of lists in it their number of parts at most."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 2
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = 4
        self.maxstring = self.maxother = LONGEST

    def repr_int(self, number: int, level: int) -> str:
        if number.bit_length() > MOST_BITS:
            return f"a whole number of {number.bit_length()} bits"
        return repr(number)


def shown(value: object) -> str:
    """What ``repr`` says of a value, or the beginning and the end of that; at most ``LONGEST`` characters."""
    return cut(_Short().repr(value))


def cut(text: str, longest: int = LONGEST) -> str:
    """The text, or its beginning and its end where it is longer than so many characters."""
    if len(text) <= longest:
        return text
    half = (longest - 3) // 2
    return f"{text[:half]}...{text[-half:]}"
