"""The heap that grows while tensors come and go: holes are filled, joined and left, and the end is given back."""

from __future__ import annotations

import random

import pytest
from xdyna_unianimate.app.costs import Cost
from xdyna_unianimate.app.heap import ALIGNED, HEADER, MAPPED_ALWAYS, MAPPED_FIRST, Heap, heap_bytes

KB = 2**10


def trace(*sizes: int) -> tuple[tuple[int, int], ...]:
    """Positive: a tensor of so many kB is made, numbered from 1. Negative: the one of that number goes."""
    made = iter(range(1, 1 + len(sizes)))
    return tuple((next(made), size * KB) if size > 0 else (-size, 0) for size in sizes)


def test_what_is_alive_is_held() -> None:
    assert heap_bytes([trace(10, 20, 30)]) == 60 * KB + 3 * HEADER
    assert heap_bytes([]) == 0


def test_a_hole_is_filled_by_what_fits_with_its_alignment() -> None:
    held = 100 * KB + HEADER
    assert heap_bytes([trace(50, 50, -1, 40)]) == held + HEADER
    assert heap_bytes([trace(50, 50, -1, 50)]) == held + 50 * KB + 2 * HEADER, "not by one of its own size"
    assert ALIGNED < KB


def test_the_smallest_hole_that_is_large_enough_is_taken() -> None:
    """First 60, later 40 goes back: the 30 takes the 40, and the 50 still fits into the 60."""
    assert heap_bytes([trace(60, 1, 40, 1, -1, -3, 30, 50)]) == 102 * KB + 4 * HEADER


def test_holes_beside_each_other_are_one() -> None:
    assert heap_bytes([trace(30, 30, 1, -1, -2, 59)]) == 61 * KB + 3 * HEADER
    assert heap_bytes([trace(30, 30, 1, -2, -1, 59)]) == 61 * KB + 3 * HEADER
    assert heap_bytes([trace(30, 1, 30, 1, -1, -3, 59)]) == 121 * KB + 5 * HEADER, "a tensor lies between"


def test_large_tensors_leave_no_hole_until_the_limit_has_followed_them() -> None:
    """The first of 200 kB goes back to the system and raises the limit; the next ones lie in the heap."""
    large = 200
    assert large * KB > MAPPED_FIRST
    heap = Heap()
    heap.follow(trace(large, -1))
    assert (heap.peak, heap._end) == (large * KB + HEADER, 0)
    heap.follow(trace(large - 1, 1, -1, large - 1))
    assert heap.peak == (2 * large - 1) * KB + 3 * HEADER


def test_the_largest_are_always_given_back() -> None:
    heap = Heap()
    for _ in range(5):
        heap.follow(((1, MAPPED_ALWAYS), (2, 10), (1, 0)))
    assert heap.peak == MAPPED_ALWAYS + 10 + 2 * HEADER
    assert heap._mapped == 0


def test_the_end_goes_back_when_it_is_large() -> None:
    heap = Heap()
    heap.follow(trace(*[100] * 5))
    assert heap._end < 2 * MAPPED_FIRST
    assert heap.peak == 500 * KB + 5 * HEADER


def test_a_call_of_another_size_is_followed_in_proportion() -> None:
    cost = Cost(1.0, 30, ((0, 20), (1, 10), (2, 1), (0, 0), (2, 0)))
    half = cost.of_size(0.5)
    assert (half.tflop, half.bytes, half.trace) == (0.0, 15, ((0, 10), (1, 5), (2, 1), (0, 0), (2, 0)))


@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_lost_and_nothing_overlaps(seed: int) -> None:
    """At any time places of tensors and holes make up the heap."""
    chosen, heap, alive = random.Random(seed), Heap(), []
    for _ in range(500):
        if alive and chosen.random() < 0.5:
            heap._give(*alive.pop(chosen.randrange(len(alive))))
        else:
            size = chosen.randrange(1, 2 * MAPPED_FIRST)
            alive.append((heap._take(size), size))
        inside = sorted(
            [(place, size) for place, size in alive if place is not None] + list(heap._holes.items())
        )
        ends = [place + size for place, size in inside]
        assert [place for place, _ in inside] == [0, *ends][: len(inside)]
        assert (ends or [0])[-1] == heap._end
        assert len(heap._holes) == len(heap._holes_by_end) == len(heap._holes_by_size)
        assert heap.peak >= heap._end + heap._mapped >= sum(size for _, size in alive)
