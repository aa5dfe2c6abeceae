"""Fewer points with the same picture: thinning that keeps what a person would look for.

The range of steps is cut into buckets. Of each bucket the lowest and the highest finite value
survive, and one `None` where it has values that are not finite; so do the first and last point.
A chunk (one stored batch) that lies inside one bucket counts by its stored extremes, unread.
"""

from typing import Callable, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

Point = Tuple[int, Optional[float]]


class Chunk(NamedTuple):
    """What is known of consecutive points without reading them."""

    seq: int
    size: int
    nonfinite: int
    first_step: int
    last_step: int
    low: Optional[float]
    low_step: Optional[int]
    high: Optional[float]
    high_step: Optional[int]
    until: Optional[int] = None

    @property
    def is_whole(self) -> bool:
        """Whether all its points are part of the curve, so that its extremes are the curve's."""
        return self.until is None or self.until >= self.last_step


#: Reads the points of the chunks with these `seq`s, in the order given.
ReadChunks = Callable[[Sequence[int]], Iterable[Point]]


def thin(
    chunks: Sequence[Chunk],
    points: int,
    read: ReadChunks,
    bounds: Optional[Tuple[int, int]] = None,
) -> List[Point]:
    """About `points` points of the series, in ascending steps.

    `bounds` limits the range to steps from the first to the second number, both included.
    """
    if not chunks:
        return []
    first = min(chunk.first_step for chunk in chunks)
    last = max(
        chunk.last_step if chunk.until is None else min(chunk.last_step, chunk.until)
        for chunk in chunks
    )
    if bounds is not None:
        # Buckets where there are no points would only make the others coarser.
        first, last = max(first, bounds[0]), min(last, bounds[1])
    if sum(chunk.size for chunk in chunks) <= points:
        every = read([chunk.seq for chunk in chunks])
        return sorted((point for point in every if first <= point[0] <= last), key=_step)
    buckets = _Buckets(first, last, max(1, points // 2))
    unread = [chunk.seq for chunk in chunks if not buckets.take_chunk(chunk)]
    # The ends of the curve are always drawn as they are.
    ends = [seq for seq in {chunks[0].seq, chunks[-1].seq} if seq not in set(unread)]
    for step, value in read(sorted([*unread, *ends])):
        if first <= step <= last:
            buckets.take_point(step, value)
    return buckets.points()


class _Buckets:
    """The extremes seen so far, per bucket of steps."""

    def __init__(self, first: int, last: int, number: int) -> None:
        self._first = first
        self._last = last
        self._width = max(1.0, (last - first + 1) / number)
        self._low: Dict[int, Tuple[float, int]] = {}
        self._high: Dict[int, Tuple[float, int]] = {}
        self._gap: Dict[int, int] = {}
        self._ends: List[Point] = []

    def take_chunk(self, chunk: Chunk) -> bool:
        """Count the chunk by its extremes; False where its points have to be read."""
        bucket = self._bucket(chunk.first_step)
        inside = (
            self._first <= chunk.first_step
            and chunk.last_step <= self._last
            and bucket == self._bucket(chunk.last_step)
        )
        if (
            not inside
            or not chunk.is_whole
            or chunk.nonfinite
            or chunk.low is None
            or chunk.high is None
        ):
            return False
        self._take(bucket, chunk.low_step or 0, chunk.low)
        self._take(bucket, chunk.high_step or 0, chunk.high)
        return True

    def take_point(self, step: int, value: Optional[float]) -> None:
        """Count one point that has been read."""
        bucket = self._bucket(step)
        if value is None:
            self._gap.setdefault(bucket, step)
        else:
            self._take(bucket, step, value)
        if not self._ends:
            self._ends = [(step, value), (step, value)]
        self._ends[0] = min(self._ends[0], (step, value), key=_step)
        self._ends[1] = max(self._ends[1], (step, value), key=_step)

    def points(self) -> List[Point]:
        """What survives, each step once, in ascending steps."""
        kept: Dict[int, Optional[float]] = {}
        for extremes in (self._low, self._high):
            kept.update({step: value for value, step in extremes.values()})
        kept.update(dict(self._ends))
        kept.update(dict.fromkeys(self._gap.values()))
        return sorted(kept.items())

    def _bucket(self, step: int) -> int:
        return int((step - self._first) / self._width)

    def _take(self, bucket: int, step: int, value: float) -> None:
        if bucket not in self._low or value < self._low[bucket][0]:
            self._low[bucket] = (value, step)
        if bucket not in self._high or value > self._high[bucket][0]:
            self._high[bucket] = (value, step)


def _step(point: Point) -> int:
    return point[0]
