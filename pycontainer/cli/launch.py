"""Has a container started, and waits with it or leaves it running: what `run` and `start` have in common."""

from __future__ import annotations

import os
import sys

from pycontainer.cli.detach_keys import DetachKeys
from pycontainer.cli.foreground import MonitorRelay, Pipes, window_size
from pycontainer.engine.ask import ask
from pycontainer.engine.settings import Settings
from pycontainer.errors import HostError, UsageError, printable
from pycontainer.kernel.operation import wants_bold
from pycontainer.kernel.undo import Undo
from pycontainer.monitor import messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from typing import Any

    from pycontainer.monitor.messages import Message


def attached(settings: Settings, request: Message, *, interactive: bool, tty: bool, values: dict[str, Any]) -> int:
    """Start a container and stay with it; the program's exit status, 0 after detaching. Raises what kept it from it."""
    if tty and interactive and not os.isatty(0):
        raise UsageError("-t", "", "standard input is not a terminal", "leave out -t to use a pipe or a file")
    keys = DetachKeys(values.get("detach_keys"))
    with Undo() as undo:
        pipes = Pipes(interactive=interactive, tty=tty, undo=undo)
        connection = _ask(settings, request, pipes.given, [end for end in pipes.theirs if end >= 0], values)
    relay = MonitorRelay(connection, tty=tty, keys=keys if tty and interactive else None)
    relay.join(pipes)
    return relay.serve()


def detached(settings: Settings, request: Message, *, values: dict[str, Any]) -> tuple[str, str]:
    """Start a container and leave it running; its id and name. Raises what kept it from being started."""
    connection = _ask(settings, request, [False, False, False], [], values)
    container = ("", "")
    try:
        while True:
            message, passed = messages.receive(connection)
            messages.close_all(passed)
            if message is None:
                raise HostError("start the container", container[0][:12], "the process that started it was killed")
            if message["say"] == "error":
                raise messages.unpack_error(message)
            if message["say"] == "notice":
                sys.stderr.write(f"pycontainer: {printable(message['text'])}\n")
            elif message["say"] == "created":
                container = message["id"], message["name"]
            elif message["say"] in ("started", "exit"):
                return container
    finally:
        connection.close()


def _ask(
    settings: Settings, request: Message, given: list[bool], passed: list[int], values: dict[str, Any]
) -> _socket.socket:
    explained = [2] if values.get("explain") else []
    request = {**request, "pipes": given, "size": window_size(), "bold": wants_bold(2)}
    return ask(settings, request, [*passed, *explained])
