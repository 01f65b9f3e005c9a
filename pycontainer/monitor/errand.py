"""Something that a monitor has done by a child of its own.

A monitor waits, perhaps for months, and there may be hundreds of them. What it does itself it pays for in memory that
is its own from then on, for a page that is written to is no longer shared with the launcher, and counting references
writes. So it leaves to a child whatever takes more than a few lines: starting the container, and the database.
"""

from __future__ import annotations

import os
import select

from pycontainer.errors import HostError
from pycontainer.kernel import descriptors, process, signals
from pycontainer.kernel.event_loop import READ, EventLoop
from pycontainer.monitor import messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable, Sequence

    from pycontainer.monitor.messages import Message

_LINGER = 0.25  # seconds, because most programs that end are short


def run(function: Callable[[], tuple[Message, list[int]]]) -> tuple[Message, list[int]]:
    """Call `function` in a forked child and wait for it: the object and the descriptors that it returns.

    Raises the PycontainerError or OSError that it raises, HostError where it was killed.
    """
    pid, channel = start(function)
    try:
        await_answer(pid, channel)
        return answer(channel)
    finally:
        channel.close()
        os.waitpid(pid, 0)


def start(
    function: Callable[[], tuple[Message, list[int]]], then: Callable[[_socket.socket], int] | None = None
) -> tuple[int, _socket.socket]:
    """Call `function` in a forked child: its pid, and a channel for its `answer`. Its caller reaps it. Raises OSError.

    After the answer it calls `then` with its end of the channel, and ends with the status that this returns; 0 without
    one, or after an error.
    """
    ours, theirs = descriptors.pair()

    def work() -> int:
        # Or it would never see the end of file.
        ours.close()
        return _report(theirs, function, then)

    try:
        pid = begin(work)
    finally:
        theirs.close()
    return pid, ours


def begin(function: Callable[[], int]) -> int:
    """Call `function` in a forked child that ends with the status that it returns, 1 after an error: its pid.

    Nobody hears of it but by that status, and its caller reaps it. Raises OSError.
    """
    parent = os.getpid()
    pid = os.fork()
    if pid != 0:
        return pid
    status = 1
    try:
        # With its parent dies the right to touch the container.
        process.set_parent_death_signal(signals.SIGKILL)
        if os.getppid() == parent:
            signals.restore_defaults()
            signals.ignore([signals.SIGPIPE])
            status = function()
    finally:
        os._exit(status)


def await_answer(pid: int, channel: _socket.socket) -> None:
    """Return when there is an answer, or when there will be none."""
    # The channel's end alone would not say so: a container's first process has it too until it executes its program.
    pidfd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.register(channel.fileno(), select.POLLIN)
        poll.poll()
    finally:
        os.close(pidfd)


def answer(channel: _socket.socket) -> tuple[Message, list[int]]:
    """What the function returned that was called by `start`; it must be there: `await_answer`, or an event loop.

    Raises what the function raised, HostError where it was killed.
    """
    message, passed = messages.receive_many(channel) if descriptors.is_readable(channel) else (None, [])
    if message is None:
        raise HostError("look after the container", "", "a child of its monitor was killed")
    if message.get("say") == "error":
        messages.close_all(passed)
        raise messages.unpack_error(message)
    return message, passed


class Worker:
    """A child that does one errand after another, as long as the next comes soon; the first may take its time.

    It saves the forks, and what it takes to open the database; and one can be had before there is something to do.
    """

    def __init__(
        self,
        handle: Callable[[Message, list[int]], tuple[Message, list[int]]],
        prepare: Callable[[], None] | None = None,
    ) -> None:
        """Raises OSError.

        handle   called in the child with what `ask` is given; what it returns is the answer
        prepare  called there at once, for what can be done before there is something to do
        """
        self._handle = handle
        self._prepare = prepare
        self._loop: EventLoop | None = None
        self._pid, self._channel = start(lambda: ({}, []), self._serve)
        self._pidfd = os.pidfd_open(self._pid)
        self._is_ready = False

    def _serve(self, channel: _socket.socket) -> int:
        timeout = None
        if self._prepare is not None:
            self._prepare()
        while descriptors.is_readable(channel, timeout):
            message, passed = messages.receive(channel)
            if message is None:
                break
            # From here on it is done, and nobody else is to do it.
            messages.send(channel, {"say": "taken"})
            try:
                found, given = self._handle(message, passed)
            except Exception as error:
                messages.send(channel, messages.pack_error(error))
                break
            messages.send_many(channel, found, given)
            messages.close_all(given)
            timeout = _LINGER
        return 0

    def watch(self, loop: EventLoop) -> None:
        """Have the child reaped by `loop` when it ends."""
        self._loop = loop
        loop.watch(self._pidfd, READ, self.close)

    def ask(self, message: Message, passed: Sequence[int] = ()) -> tuple[Message, list[int]] | None:
        """Have an errand done, and wait for it; None where the child has ended, or is about to.

        Raises what it raises, HostError where it was killed in the middle. After an error it ends.
        """
        if self._pidfd < 0:
            return None
        try:
            messages.send(self._channel, message, passed)
            # Each of them says that it is ready, first of all.
            for _ in range(1 if self._is_ready else 2):
                await_answer(self._pid, self._channel)
                if not descriptors.is_readable(self._channel) or messages.receive(self._channel)[0] is None:
                    return None
        except OSError:
            return None
        self._is_ready = True
        await_answer(self._pid, self._channel)
        return answer(self._channel)

    def close(self) -> None:
        """Wait for the child's end, which comes soon. May be called twice."""
        if self._pidfd >= 0:
            if self._loop is not None:
                self._loop.forget(self._pidfd)
            self._channel.close()
            os.waitpid(self._pid, 0)
            os.close(self._pidfd)
            self._pidfd = -1


def _report(
    channel: _socket.socket,
    function: Callable[[], tuple[Message, list[int]]],
    then: Callable[[_socket.socket], int] | None,
) -> int:
    try:
        message, passed = function()
    except Exception as error:
        # Whatever it is, the monitor is told, because nobody reads what a child of its own prints.
        message, passed, then = messages.pack_error(error), [], None
    messages.send_many(channel, message, passed)
    return then(channel) if then is not None else 0
