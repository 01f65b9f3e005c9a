"""Has a container started, and waits with it or leaves it running: what `run` and `start` have in common."""

from __future__ import annotations

import os
import sys

from pycontainer.cli.detach_keys import DetachKeys
from pycontainer.cli.foreground import MonitorRelay, Pipes, window_size
from pycontainer.engine.ask import ask
from pycontainer.engine.settings import Settings
from pycontainer.errors import HostError, UsageError, printable
from pycontainer.kernel.undo import Undo
from pycontainer.monitor import messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Sequence
    from typing import Any

    from pycontainer.cli.explain import Explainer
    from pycontainer.monitor.messages import Message


class Silent:
    """A command that explains nothing; cli/explain.py has the one that does.

    passed   descriptors for who takes the steps
    request  what it is to know of them
    """

    passed: Sequence[int] = ()
    request: Message = {"explained": False, "bold": False, "records": False}

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def attached(settings: Settings, request: Message, *, interactive: bool, tty: bool, values: dict[str, Any]) -> int:
    """Start a container and stay with it; the program's exit status, 0 after detaching. Raises what kept it from it."""
    if tty and interactive and not os.isatty(0):
        raise UsageError("-t", "", "standard input is not a terminal", "leave out -t to use a pipe or a file")
    keys = DetachKeys(values.get("detach_keys"))
    with explainer_of(values, interactive=interactive) as explainer:
        with Undo() as undo:
            pipes = Pipes(interactive=interactive, tty=tty, undo=undo)
            ends = [end for end in pipes.theirs if end >= 0]
            connection = _ask(settings, request, pipes.given, ends, explainer, stays=True)
        relay = MonitorRelay(connection, tty=tty, keys=keys if tty and interactive else None)
        relay.join(pipes)
        return relay.serve()


def detached(settings: Settings, request: Message, *, values: dict[str, Any]) -> tuple[str, str]:
    """Start a container and leave it running; its id and name. Raises what kept it from being started."""
    with explainer_of(values, interactive=False) as explainer:
        return _start(_ask(settings, request, [False, False, False], [], explainer, stays=False))


def _start(connection: _socket.socket) -> tuple[str, str]:
    """Wait until the container runs; its id and name. Raises what kept it from being started."""
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


def explainer_of(values: dict[str, Any], *, interactive: bool) -> Silent | Explainer:
    """What --explain asks for. Raises UsageError."""
    style, path = values.get("explain"), values.get("explain_to", "")
    if style is None and not path:
        return Silent()
    # Only now, because mostly nobody asks.
    from pycontainer.cli.explain import Explainer

    return Explainer(style or "steps", path, interactive=interactive)


def _ask(
    settings: Settings,
    request: Message,
    given: list[bool],
    passed: list[int],
    explainer: Silent | Explainer,
    *,
    stays: bool,
) -> _socket.socket:
    request = {**request, **explainer.request, "pipes": given, "size": window_size(), "detach": not stays}
    return ask(settings, request, [*passed, *explainer.passed])
