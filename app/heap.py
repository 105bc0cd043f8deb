"""What a process grows to while tensors come and go.

Tensors on a CPU lie in the heap of the C library, which gives nothing back to the system but its end: a process
holds its tensors and the holes between them. Doing with their sizes what the allocator does tells how large the
holes become. It is glibc's malloc that is followed here (mallopt(3): M_MMAP_THRESHOLD, M_TRIM_THRESHOLD).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from dataclasses import dataclass, field

Trace = tuple[tuple[int, int], ...]
"""What happens during a call, in this order: (number of a tensor, its bytes as it is made, or 0 as it goes)."""

HEADER = 16
"""Bytes in front of every tensor."""

ALIGNED = 96
"""Bytes that a hole must have beyond them, since torch asks for addresses that are multiples of 64: a tensor does
not fit into the hole that one of its size leaves."""

ROUNDS = 2
"""How often calls are followed: the holes that one leaves are there for the next."""

MAPPED_FIRST = 128 * 2**10
"""Bytes from which on a tensor gets memory of its own from the system, which it gives back when it goes; the limit
becomes the size of the largest that went, of those up to ..."""

MAPPED_ALWAYS = 32 * 2**20
"""... so many bytes."""


@dataclass
class Heap:
    """Places of tensors, in bytes from the heap's begin: in the smallest hole that is large enough, else at the end.

    peak: the most that was held so far. A hole that lies at the end goes back to the system when it is twice as
    large as the limit of what has memory of its own.
    """

    peak: int = 0
    _end: int = 0
    _mapped: int = 0
    _limit: int = MAPPED_FIRST
    _holes: dict[int, int] = field(default_factory=dict, repr=False)
    _holes_by_end: dict[int, int] = field(default_factory=dict, repr=False)
    _holes_by_size: list[tuple[int, int]] = field(default_factory=list, repr=False)

    def follow(self, trace: Trace) -> None:
        """Make room for the tensors of a call, and give it back; those that are left go when it ends."""
        places: dict[int, tuple[int | None, int]] = {}
        for number, size in trace:
            if size:
                places[number] = self._take(size + HEADER), size + HEADER
            else:
                self._give(*places.pop(number))
        for place, size in places.values():
            self._give(place, size)

    def _take(self, size: int) -> int | None:
        """The place of so many bytes; None where they get memory of their own."""
        place = None
        if size >= self._limit:
            self._mapped += size
        else:
            found = bisect_left(self._holes_by_size, (size + ALIGNED, 0))
            if found < len(self._holes_by_size):
                room, place = self._holes_by_size[found]
                self._fill(place)
                self._leave(place + size, room - size)
            else:
                place = self._holes_by_end.get(self._end, self._end)
                self._fill(place)
                self._end = place + size
        self.peak = max(self.peak, self._end + self._mapped)
        return place

    def _give(self, place: int | None, size: int) -> None:
        """Give back so many bytes at a place: as a hole, joined with those beside it, or to the system."""
        if place is None:
            self._mapped -= size
            if size <= MAPPED_ALWAYS:
                self._limit = max(self._limit, size)
            return
        before = self._holes_by_end.get(place, place)
        size += self._fill(before) + self._fill(place + size)
        if before + size == self._end and size >= 2 * self._limit:
            self._end = before
        else:
            self._leave(before, size)

    def _leave(self, place: int, size: int) -> None:
        """A hole begins there."""
        if size:
            self._holes[place], self._holes_by_end[place + size] = size, place
            insort(self._holes_by_size, (size, place))

    def _fill(self, place: int) -> int:
        """The hole that begins there is one no longer; its bytes, 0 where none begins."""
        size = self._holes.pop(place, 0)
        if size:
            del self._holes_by_end[place + size]
            del self._holes_by_size[bisect_left(self._holes_by_size, (size, place))]
        return size


def heap_bytes(traces: Iterable[Trace]) -> int:
    """The most that calls hold, made one after the other and again, with the holes that they leave."""
    heap = Heap()
    for trace in [*traces] * ROUNDS:
        heap.follow(trace)
    return heap.peak
