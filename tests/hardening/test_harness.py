"""The harness itself: what counts as a sentence, and that nothing lost is passed over."""

from __future__ import annotations

import pytest

from .tally import Tally, not_a_sentence, table


@pytest.mark.parametrize(
    ("text", "names", "fault"),
    [
        ("a.mp4 holds no frames.", "a.mp4", ""),
        ("KeyError", "", "it has no words"),
        ("The file holds\nno frames at all.", "", "it has several lines"),
        ("The file holds no frames.", "a.mp4", "it does not name 'a.mp4'"),
        ("The file holds " + "many " * 400, "", "it is too long"),
    ],
)
def test_what_is_a_sentence(text: str, names: str, fault: str) -> None:
    assert not_a_sentence(text, names) == ([fault] if fault else [])


def test_outcomes_are_counted_and_losses_do_not_stop_the_rest() -> None:
    tally = Tally("x")
    with tally.trying("fine"):
        pass
    with tally.trying("refused", names="a.mp4"):
        raise ValueError("a.mp4 holds no frames.")
    with tally.trying("crashed"):
        raise KeyError("frames")
    with tally.trying("taken", must_refuse=True):
        pass
    with tally.trying("no sentence"):
        raise ValueError("bad")
    assert tally.counts == {"tried": 5, "worked": 1, "refused": 1, "lost": 3}
    with pytest.raises(AssertionError, match="3 lost of 5 tried"):
        tally.check()


def test_the_table_sums_up() -> None:
    first, second = Tally("media"), Tally("poses")
    first.worked(3)
    second.refused("This is refused with a sentence.")
    lines = table({tally.family: tally.counts for tally in (first, second)})
    assert lines[-1].split() == ["all", "4", "3", "1", "0"]
    assert [line.split()[0] for line in lines[2:]] == ["media", "poses", "all"]
