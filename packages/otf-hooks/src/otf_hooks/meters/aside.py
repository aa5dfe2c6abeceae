"""A meter whose reading may take long, or never come back."""

from __future__ import annotations

import threading
import time
from typing import Callable, Dict, Optional, Union

from .meter import Meter, MeterEnded

#: Seconds that whoever reads waits for a reading before they go on without it.
_WAIT = 0.05
#: Seconds after which a reading that has not come back will not come back.
PATIENCE = 30.0


class Aside:
    """Reads another meter in a thread beside, one reading at a time.

    A driver that hangs leaves one sleeping thread behind, which keeps nobody from ending. A reading
    that is late is handed out the next time.
    """

    def __init__(
        self,
        meter: Meter,
        name: str,
        *,
        wait: float = _WAIT,
        patience: float = PATIENCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._meter = meter
        self._name = name
        self._wait = wait
        self._patience = patience
        self._clock = clock
        self._reading: Optional[_Reading] = None

    def read(self) -> Dict[str, float]:
        """The newest reading, if there is one that was not handed out yet.

        Raises what the meter raised, and `MeterEnded` where it does not come back.
        """
        if self._reading is None:
            self._reading = _Reading(self._meter, self._name, self._clock())
        reading = self._reading
        if reading.is_done.wait(self._wait):
            self._reading = None
            return reading.take()
        if self._clock() - reading.began > self._patience:
            raise MeterEnded(
                f"{self._name} has not answered for {self._patience:.0f} s; its series end here."
            )
        return {}


class _Reading:
    def __init__(self, meter: Meter, name: str, began: float) -> None:
        self.began = began
        self.is_done = threading.Event()
        self._meter = meter
        self._found: Union[Dict[str, float], Exception, None] = None
        threading.Thread(target=self._read, name=f"onthefly-{name}", daemon=True).start()

    def take(self) -> Dict[str, float]:
        found = self._found
        assert found is not None
        if isinstance(found, Exception):
            raise found
        return found

    def _read(self) -> None:
        # The thread's boundary: what goes wrong is raised where the reading is taken.
        try:
            self._found = self._meter.read()
        except Exception as error:  # noqa: BLE001
            self._found = error
        self.is_done.set()
