"""`exec`."""

from __future__ import annotations

import os

from pycontainer.cli import launch
from pycontainer.cli.detach_keys import DetachKeys
from pycontainer.cli.foreground import MonitorRelay, Pipes, window_size
from pycontainer.engine.ask import ask
from pycontainer.engine.environment import variables
from pycontainer.engine.settings import Settings
from pycontainer.errors import UsageError
from pycontainer.kernel import terminal
from pycontainer.kernel.undo import Undo

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Sequence
    from typing import Any

    from pycontainer.monitor.messages import Message


def exec(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer exec`; the program's exit status, 0 with --detach. Raises PycontainerError, OSError."""
    tty, detach = bool(values.get("tty")), bool(values.get("detach"))
    interactive = bool(values.get("interactive")) and not detach
    if tty and interactive and not os.isatty(0):
        raise UsageError("exec -it", "", "standard input is not a terminal", "leave out -t to use a pipe or a file")
    request: Message = {
        "do": "exec",
        "name": operands[0],
        "args": operands[1:],
        "env": variables(values.get("env_file") or [], values.get("env") or []),
        "user": values.get("user"),
        "workdir": values.get("workdir"),
        "privileged": bool(values.get("privileged")),
        "tty": tty,
        "detach": detach,
        "size": window_size(),
    }
    keys = DetachKeys(values.get("detach_keys")) if tty and interactive else None
    with launch.explainer_of(values, interactive=interactive) as explainer:
        request |= explainer.request
        if tty or detach:
            connection = ask(settings, request, explainer.passed)
            relay = ExecRelay(connection, tty=tty, keys=keys, interactive=interactive, detach=detach)
            return relay.serve()
        return _with_pipes(settings, request, explainer.passed, interactive=interactive)


def _with_pipes(settings: Settings, request: Message, explained: Sequence[int], *, interactive: bool) -> int:
    with Undo() as undo:
        pipes = Pipes(interactive=True, tty=False, undo=undo)
        connection = ask(settings, request, [*pipes.theirs, *explained])
    relay = ExecRelay(connection, tty=False, keys=None, interactive=interactive, detach=False)
    if not interactive:
        os.close(pipes.ours[0])
        pipes.ours[0] = -1
    relay.join(pipes)
    return relay.serve()


class ExecRelay(MonitorRelay):
    """For a program beside the container's own: its terminal's master comes here."""

    def __init__(
        self, connection: _socket.socket, *, tty: bool, keys: DetachKeys | None, interactive: bool, detach: bool
    ) -> None:
        super().__init__(connection, tty=tty, keys=keys)
        self._interactive = interactive
        self._detach = detach
        self._master = -1

    def take_message(self, message: Message, passed: list[int]) -> None:
        if message["say"] == "started":
            if self._detach:
                self.status = 0
            elif passed:
                self._master = passed.pop()
                self.add_output(self._master, 1)
                if self._interactive:
                    self.add_input(0, os.dup(self._master))
        super().take_message(message, passed)

    def resize(self) -> None:
        rows, columns = window_size()
        if self._master >= 0 and rows and columns:
            try:
                terminal.set_window_size(self._master, rows, columns)
            except OSError:
                # The program has ended and taken the terminal with it.
                pass

    def lose_output(self, target: int) -> bool:
        return self._master >= 0
