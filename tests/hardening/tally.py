"""What was tried and what came of it, counted: worked, refused with a sentence, or lost.

A test module names its ``FAMILY`` (the table's row) and takes the fixture ``tally`` (see ``conftest``)::

    FAMILY = "media"

    def test_truncated(tally, amount, tmp_path):
        for cut in cuts(amount(short=20, full=200)):
            with tally.trying(f"cut at {cut}", names=path.name):
                list(open_video(path).frames())

Whatever is lost does not stop the loop; it fails the test at its end, with the first traceback.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

OUTCOMES = ("tried", "worked", "refused", "lost")

SENTENCES = (ValueError, OSError, ImportError)
"""What the command line turns into one sentence and exit code 1 (RuntimeError and the like are crashes)."""

LONGEST = 1500
"""Characters that a sentence may have, so that a toast can hold it."""
SHOWN = 20
"""Losses that a failed test shows."""


@dataclass
class Tally:
    """Counts of one test; ``losses`` holds a text for each of the lost."""

    family: str
    counts: Counter[str] = field(default_factory=Counter)
    losses: list[str] = field(default_factory=list)

    def worked(self, times: int = 1) -> None:
        """Something was tried, and did what it should."""
        self._count("worked", times)

    def refused(self, error: BaseException | str, names: str = "") -> None:
        """Something was tried and refused; it is lost if the refusal is no sentence that holds ``names``."""
        faults = not_a_sentence(str(error), names)
        if faults:
            self.lost(f"{', '.join(faults)}: {error!r}")
        else:
            self._count("refused", 1)

    def lost(self, why: str) -> None:
        """Something was tried and crashed, hung, leaked or gave a wrong result."""
        self._count("lost", 1)
        self.losses.append(why)

    @contextmanager
    def trying(
        self,
        case: str,
        names: str = "",
        sentences: tuple[type[BaseException], ...] = SENTENCES,
        must_refuse: bool = False,
    ) -> Iterator[None]:
        """Count what the block does: ends, raises one of ``sentences`` as a sentence, or anything else.

        case:        how a failure calls it (a seed, a file name).
        names:       what the sentence has to hold, usually the file's name.
        must_refuse: the block's end is a loss.
        """
        try:
            yield
        except sentences as error:
            faults = not_a_sentence(str(error), names)
            if faults:
                self.lost(f"{case}: {', '.join(faults)}\n{traceback.format_exc(limit=-6)}")
            else:
                self._count("refused", 1)
        except Exception:
            self.lost(f"{case}:\n{traceback.format_exc(limit=-8)}")
        else:
            if must_refuse:
                self.lost(f"{case}: it was taken, and should have been refused")
            else:
                self._count("worked", 1)

    def check(self) -> None:
        """Fail the test where something was lost."""
        if self.losses:
            shown = "\n".join(self.losses[:SHOWN])
            raise AssertionError(f"{len(self.losses)} lost of {self.counts['tried']} tried:\n{shown}")

    def _count(self, outcome: str, times: int) -> None:
        self.counts.update({"tried": times, outcome: times})


def not_a_sentence(text: str, names: str = "") -> list[str]:
    """What keeps an error's text from being a sentence for a user; empty where nothing does."""
    faults = {
        "it has no words": len(text.split()) < 4,
        "it has several lines": "\n" in text.strip(),
        "it is too long": len(text) > LONGEST,
        f"it does not name {names!r}": bool(names) and names not in text,
        "it holds a traceback": "Traceback" in text,
    }
    return [fault for fault, present in faults.items() if present]


def table(rows: dict[str, Counter[str]]) -> list[str]:
    """Lines of the table: a row for every family, and the sum."""
    total = sum(rows.values(), Counter())
    width = max(map(len, [*rows, "family"]))
    head = f"{'family':<{width}}  {'tried':>8}  {'worked':>8}  {'refused with a sentence':>23}  {'lost':>6}"
    lines = [head, "-" * len(head)]
    for name, counts in [*sorted(rows.items()), ("all", total)]:
        tried, worked, refused, lost = (counts[outcome] for outcome in OUTCOMES)
        lines.append(f"{name:<{width}}  {tried:>8}  {worked:>8}  {refused:>23}  {lost:>6}")
    return lines
