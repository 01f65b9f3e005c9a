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
from pycontainer.monitor import messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable

    from pycontainer.monitor.messages import Message


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
    function: Callable[[], tuple[Message, list[int]]], then: Callable[[], int] | None = None
) -> tuple[int, _socket.socket]:
    """Call `function` in a forked child: its pid, and a channel for its `answer`. Its caller reaps it. Raises OSError.

    After the answer it calls `then`, and ends with the status that this returns; 0 without one, or after an error.
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


def _work(
    parent: int,
    channel: _socket.socket,
    function: Callable[[], tuple[Message, list[int]]],
    then: Callable[[], int] | None,
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
            status = then()
    finally:
        os._exit(status)
