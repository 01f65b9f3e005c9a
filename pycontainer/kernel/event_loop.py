"""One poll(2) loop: descriptors, timers, and the functions that are called for them."""

from __future__ import annotations

import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

READ = select.POLLIN
WRITE = select.POLLOUT


class Timer:
    """One call to come; `cancel` it at any time."""

    __slots__ = ("function", "when")

    def __init__(self, when: float, function: Callable[[], None]) -> None:
        self.when = when
        self.function: Callable[[], None] | None = function

    def cancel(self) -> None:
        """It will not be called."""
        self.function = None


class EventLoop:
    """Calls functions when descriptors are ready and when their time has come, one after the other."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._watched: dict[int, tuple[int, Callable[[], None]]] = {}
        self._timers: list[Timer] = []

    def watch(self, descriptor: int, events: int, function: Callable[[], None]) -> None:
        """Call `function` whenever `descriptor` is ready for `events`, has failed or was hung up; replaces."""
        self._watched[descriptor] = (events, function)
        self._poll.register(descriptor, events)

    def forget(self, descriptor: int) -> None:
        """Watch it no more; no failure where it is not watched. Before it is closed."""
        if self._watched.pop(descriptor, None):
            self._poll.unregister(descriptor)

    def after(self, seconds: float, function: Callable[[], None]) -> Timer:
        """Call `function` once, when so much time has passed."""
        timer = Timer(time.monotonic() + seconds, function)
        self._timers.append(timer)
        return timer

    def turn(self, longest: float | None = None) -> bool:
        """Wait for something to do, at most `longest` seconds, and do it; whether there was anything."""
        timeout = longest
        if self._timers:
            first = max(0.0, min(timer.when for timer in self._timers) - time.monotonic())
            timeout = first if timeout is None else min(first, timeout)
        # Rounded up, because poll counts milliseconds and would otherwise return a little too early, again and again.
        ready = self._poll.poll(None if timeout is None else int(timeout * 1000) + (timeout > 0))
        done = bool(ready)
        for descriptor, _ in ready:
            # Looked up now, because what came before in this turn may have closed it.
            entry = self._watched.get(descriptor)
            if entry is not None:
                entry[1]()
        now = time.monotonic()
        due = [timer for timer in self._timers if timer.when <= now or timer.function is None]
        if due:
            self._timers = [timer for timer in self._timers if timer not in due]
            for timer in due:
                if timer.function is not None:
                    timer.function()
                    done = True
        return done
