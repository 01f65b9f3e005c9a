"""Sees what happens to the memory of a container: how much it has from time to time, and whom the OOM killer ends.

It costs a wake-up every few seconds and two descriptors. What a death means is worked out afterwards, by a child
(engine/evidence.py).
"""

from __future__ import annotations

import os
import select
import time

from pycontainer.kernel import kernel_log
from pycontainer.kernel.event_loop import EventLoop, Timer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_FIRST, _LONGEST = 0.25, 4.0  # seconds from one sample to the next
_GROWTH = 1.3  # of these, so that a short run has samples too
_MOST_SAMPLES = 150  # of the last ten minutes
# A cgroup at its limit changes memory.events a hundred times a second while it finds memory to take back.
_PAUSE = 0.5  # seconds


class Witness:
    """Watches one cgroup from the start of a program to `close`. What the kernel has not got there is not watched.

    samples  [seconds since the start, bytes of memory.current], the oldest first
    log      descriptor of what the kernel has logged since the start, -1 where it may not be read
    """

    def __init__(self, loop: EventLoop, cgroup: str, killed: Callable[[], None]) -> None:
        self.samples: list[list[float]] = []
        self.log = -1
        self._loop = loop
        self._killed = killed
        self._begun = time.monotonic()
        self._interval = _FIRST
        self._timers: dict[str, Timer] = {}
        self._kills = 0
        self._current = _open(f"{cgroup}/memory.current")
        self._events = _open(f"{cgroup}/memory.events")
        if self._current >= 0:
            self._timers["sample"] = loop.after(self._interval, self._sample)
        if self._events >= 0:
            self.log = kernel_log.open_at_end()
            self._read_kills()
            self._watch()

    def _sample(self) -> None:
        self.take_sample()
        self._interval = min(_GROWTH * self._interval, _LONGEST)
        self._timers["sample"] = self._loop.after(self._interval, self._sample)

    def take_sample(self) -> None:
        """Look now; nothing where the cgroup has gone."""
        try:
            size = int(os.pread(self._current, 32, 0))
        except (OSError, ValueError):
            return
        self.samples.append([round(time.monotonic() - self._begun, 2), size])
        del self.samples[:-_MOST_SAMPLES]

    def _watch(self) -> None:
        self._loop.watch(self._events, select.POLLPRI, self._take_event)

    def _take_event(self) -> None:
        self._loop.forget(self._events)
        self._timers["watch"] = self._loop.after(_PAUSE, self._watch)
        before = self._kills
        if self._read_kills() > before:
            self.take_sample()
            self._killed()

    def _read_kills(self) -> int:
        """The processes that an OOM killer has ended so far. Reading is what makes poll(2) wait for the next change."""
        try:
            lines = os.pread(self._events, 4096, 0).splitlines()
        except OSError:
            # It is being removed.
            return self._kills
        self._kills = next((int(line.split()[1]) for line in lines if line.startswith(b"oom_kill ")), self._kills)
        return self._kills

    def close(self) -> None:
        """Watch no more."""
        for timer in self._timers.values():
            timer.cancel()
        if self._events >= 0:
            self._loop.forget(self._events)
        for descriptor in (self._current, self._events, self.log):
            if descriptor >= 0:
                os.close(descriptor)
        self._current = self._events = self.log = -1


def _open(path: str) -> int:
    """-1 where the controller is not in the hierarchy."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1
