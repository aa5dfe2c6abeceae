"""When the next sample may be taken, so that samples cost no more than a share of step time."""

from __future__ import annotations

#: Steps before the first sample. They compile, choose kernels and fill caches.
WARM_UP = 5
#: Seconds between two samples at least: nobody reads a chart closer.
SHORTEST = 0.25


class SampleBudget:
    """A sample is paid for afterwards: none is taken before the steps since have paid for the last.

    Each step pays `share` of its time. What is not spent is not saved up, so that at any time

        spent <= share * trained + the cost of the last sample

    Args:
        share: Between 0 and 1.
        shortest: Seconds between two samples at least.
    """

    def __init__(self, share: float, shortest: float = SHORTEST) -> None:
        #: Seconds that samples took, and steps.
        self.spent = 0.0
        self.trained = 0.0
        self._share = share
        self._shortest = shortest
        self._debt = 0.0
        self._steps_left = WARM_UP
        self._next = float("-inf")

    def is_due(self, now: float) -> bool:
        """Whether the step that begins `now` may be sampled."""
        return self._debt <= 0.0 and now >= self._next and self._steps_left <= 0

    def stepped(self, seconds: float) -> None:
        """A step took so long."""
        self._steps_left -= 1
        self.trained += seconds
        if self._debt > 0.0:
            self._debt -= self._share * seconds

    def sampled(self, seconds: float, now: float) -> None:
        """A sample cost so much, and was over `now`."""
        self.spent += seconds
        self._debt = seconds
        self._next = now + self._shortest
