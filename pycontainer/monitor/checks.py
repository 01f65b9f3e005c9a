"""Runs the health check of one container, again and again, in its monitor's loop."""

from __future__ import annotations

import os
import time

from pycontainer.errors import PycontainerError
from pycontainer.kernel import descriptors, signals
from pycontainer.kernel.event_loop import READ, EventLoop, Timer
from pycontainer.monitor import errand
from pycontainer.monitor.clock import rfc3339
from pycontainer.monitor.health import OUTPUT, TIMED_OUT, Health, HealthCheck
from pycontainer.runtime import deliver

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable
    from typing import Any

    from pycontainer.monitor.messages import Message


class CheckRunner:
    """Runs `check` from the start of a container to `close`; `record(health, changed)` is told of each result.

    state  the container's directory in the runtime's state
    """

    def __init__(
        self, loop: EventLoop, state: str, check: HealthCheck, record: Callable[[dict[str, Any], bool], None]
    ) -> None:
        self._loop = loop
        self._state = state
        self._check = check
        self._record = record
        self._health = Health(check, time.time())
        self._pid = 0
        self._channel: _socket.socket | None = None
        self._pidfd = -1
        self._reader = -1
        self._output = b""
        self._begun = 0.0
        self._timed_out = False
        self._limit: Timer | None = None
        self._next = loop.after(self._health.next_delay(time.time()), self._begin)

    def _begin(self) -> None:
        self._begun = time.time()
        self._output, self._timed_out = b"", False
        try:
            # Not awaited, because the container can hold up the program, and would hold up its monitor so.
            self._pid, self._channel = errand.start(self._execute, self._wait)
        except OSError as error:
            self._fail(error)
            return
        self._loop.watch(self._channel.fileno(), READ, self._take_program)
        self._limit = self._loop.after(self._check.timeout, self._give_up)

    def _execute(self) -> tuple[Message, list[int]]:
        """Start the check: a pidfd of it, and what it writes to. In a child, which is its parent."""
        from pycontainer.kernel.operation import Journal
        from pycontainer.runtime import join, spec, state

        container_state = state.load(os.path.dirname(self._state), os.path.basename(self._state))
        program = spec.Spec(spec.read(container_state.bundle), container_state.bundle).process
        reader, writer = os.pipe2(os.O_CLOEXEC)
        null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        arguments = program.with_arguments(self._check.test)
        stdio = (null, writer, writer)
        self._pidfd = join.execute(container_state, arguments, Journal(), stdio=stdio).pidfd
        return {}, [self._pidfd, reader]

    def _wait(self, channel: _socket.socket) -> int:
        """The check's exit status. In the same child."""
        # What the monitor closes while the check runs, the other side would take for open otherwise.
        descriptors.close_others({self._pidfd})
        return deliver.wait(self._pidfd, 0)

    def _take_program(self) -> None:
        assert self._channel is not None
        try:
            _, (self._pidfd, self._reader) = errand.answer(self._channel)
        except (PycontainerError, OSError) as error:
            self._put_away()
            self._fail(error)
            return
        self._loop.forget(self._channel.fileno())
        os.set_blocking(self._reader, False)
        self._loop.watch(self._reader, READ, self._take_output)
        self._loop.watch(self._pidfd, READ, self._end)

    def _fail(self, error: Exception) -> None:
        self._output = str(error).encode(errors="backslashreplace")[:OUTPUT]
        self._conclude(error.exit_status if isinstance(error, PycontainerError) else 125)

    def _take_output(self) -> None:
        self._read()

    def _read(self) -> bool:
        """Take what the check has written; whether there may be more."""
        try:
            data = os.read(self._reader, 1 << 16)
        except BlockingIOError:
            return False
        self._output += data[: OUTPUT - len(self._output)]
        if not data:
            self._loop.forget(self._reader)
        return bool(data)

    def _give_up(self) -> None:
        self._timed_out = True
        self._kill()

    def _kill(self) -> None:
        """End the check: its parent ends with it, and before it has begun, it with its parent."""
        if self._pidfd >= 0:
            signals.send(self._pidfd, signals.SIGKILL)
        else:
            os.kill(self._pid, signals.SIGKILL)

    def _end(self) -> None:
        while self._read():
            pass
        self._conclude(self._put_away())

    def _conclude(self, status: int) -> None:
        if self._timed_out:
            status = TIMED_OUT
            self._output = f"health check exceeded timeout ({self._check.timeout:g}s)".encode()
        self._finish(status)

    def _put_away(self) -> int:
        """Close and reap what the check had; its exit status."""
        if self._limit is not None:
            self._limit.cancel()
        if self._channel is not None:
            self._loop.forget(self._channel.fileno())
            self._channel.close()
            self._channel = None
        for descriptor in (self._reader, self._pidfd):
            if descriptor >= 0:
                self._loop.forget(descriptor)
                os.close(descriptor)
        self._reader = self._pidfd = -1
        status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        self._pid = 0
        return status if status >= 0 else 128 - status

    def _finish(self, status: int) -> None:
        now = time.time()
        text = self._output.decode(errors="replace")
        changed = self._health.add(rfc3339(self._begun), rfc3339(now), now, status, text)
        try:
            self._record(self._health.to_json(), changed)
        except (PycontainerError, OSError):
            # Nobody asked, and the next check says it again.
            pass
        self._next = self._loop.after(self._health.next_delay(now), self._begin)

    def close(self) -> None:
        """End it, in the middle of a check too."""
        self._next.cancel()
        if self._pid:
            self._kill()
            self._put_away()
