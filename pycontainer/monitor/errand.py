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
    from collections.abc import Callable

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
    parent = os.getpid()
    try:
        pid = os.fork()
        if pid == 0:
            _work(parent, theirs, function, then)
    finally:
        theirs.close()
    return pid, ours


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


class Pair:
    """Two errands that one child does, the second only if it is asked for soon: a fork and an open database are saved.

    answer  of the first
    """

    def __init__(
        self,
        first: Callable[[], tuple[Message, list[int]]],
        between: Callable[[], None],
        second: Callable[[Message], Message],
        loop: EventLoop,
    ) -> None:
        """Do the first, and wait for it; `loop` reaps the child. Raises as `run`.

        between  called in the child after the first, to close what others must see closed
        second   called in the child with what `ask` is told
        """
        self._between, self._second = between, second
        self._pid, self._channel = start(first, self._linger)
        try:
            await_answer(self._pid, self._channel)
            self.answer = answer(self._channel)
            self._pidfd = os.pidfd_open(self._pid)
        except BaseException:
            self._channel.close()
            os.waitpid(self._pid, 0)
            raise
        self._loop = loop
        loop.watch(self._pidfd, READ, self.close)

    def _linger(self, channel: _socket.socket) -> int:
        self._between()
        if not descriptors.is_readable(channel, _LINGER):
            return 0
        message, _ = messages.receive(channel)
        if message is None:
            return 0
        # From here on it is done, and nobody else is to do it.
        messages.send(channel, {"say": "taken"})
        try:
            found = self._second(message)
        except Exception as error:
            found = messages.pack_error(error)
        messages.send(channel, found)
        return 0

    def ask(self, message: Message) -> Message | None:
        """Do the second; None where the child has ended, or is about to. Raises what it raises, HostError."""
        if self._pidfd < 0:
            return None
        try:
            messages.send(self._channel, message)
            await_answer(self._pid, self._channel)
            if not descriptors.is_readable(self._channel) or messages.receive(self._channel)[0] is None:
                return None
        except OSError:
            return None
        await_answer(self._pid, self._channel)
        return answer(self._channel)[0]

    def close(self) -> None:
        """Wait for the child's end. May be called twice."""
        if self._pidfd >= 0:
            self._loop.forget(self._pidfd)
            self._channel.close()
            os.waitpid(self._pid, 0)
            os.close(self._pidfd)
            self._pidfd = -1


def _work(
    parent: int,
    channel: _socket.socket,
    function: Callable[[], tuple[Message, list[int]]],
    then: Callable[[_socket.socket], int] | None,
) -> None:
    status = 0
    try:
        # With its parent dies the right to touch the container.
        process.set_parent_death_signal(signals.SIGKILL)
        if os.getppid() != parent:
            return
        signals.restore_defaults()
        signals.ignore([signals.SIGPIPE])
        try:
            message, passed = function()
        except Exception as error:
            # Whatever it is, the monitor is told, because nobody reads what a child of its own prints.
            message, passed, then = messages.pack_error(error), [], None
        messages.send_many(channel, message, passed)
        if then is not None:
            status = then(channel)
    finally:
        os._exit(status)
