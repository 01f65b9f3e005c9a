"""`attach`, and `start --attach` of a container that runs already.

Two processes: a child follows the log from where it was when this client attached, as `logs -f` does, and writes it to
standard output and errors; this one has the keyboard, the signals and the window. A reader can be as slow as it likes.
"""

from __future__ import annotations

import _socket
import os

from pycontainer.cli.detach_keys import DetachKeys
from pycontainer.cli.foreground import MonitorRelay, window_size
from pycontainer.cli.main import notice
from pycontainer.cli.options import boolean
from pycontainer.engine import containers, monitors
from pycontainer.engine.containers import Container
from pycontainer.engine.repair import open_engine
from pycontainer.engine.settings import Settings
from pycontainer.errors import Conflict, HostError, UsageError
from pycontainer.kernel import descriptors, process, signals
from pycontainer.monitor import messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pycontainer.monitor.messages import Message


def attach(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer attach`; the program's exit status, 0 after detaching. Raises PycontainerError, OSError."""
    container = containers.find(open_engine(settings, notice), operands[0])
    if container.status == "paused":
        raise Conflict("attach", container.name, "it is paused", f"pycontainer unpause {container.name}")
    interactive = container.config.process.interactive and not values.get("no_stdin")
    proxy = boolean("--sig-proxy", values.get("sig_proxy", "true"))
    return attach_to(settings, container, values, interactive=interactive, proxy=proxy)


def attach_to(
    settings: Settings, container: Container, values: dict[str, Any], *, interactive: bool, proxy: bool
) -> int:
    """Stay with a running container until it ends or the user detaches; the exit status.

    interactive  pass on what is typed
    proxy        pass signals on
    """
    tty = container.config.process.tty
    if tty and interactive and not os.isatty(0):
        raise UsageError("attach", container.name, "it has a terminal, and standard input is none", "--no-stdin")
    keys = DetachKeys(values.get("detach_keys"))
    connection = monitors.require(settings, container, "attach")
    stdin = -1
    passed = []
    if interactive:
        reader, stdin = os.pipe2(os.O_CLOEXEC)
        passed.append(reader)
    answer = monitors.ask(connection, {"do": "attach"}, passed)
    messages.close_all(passed)
    if answer is None:
        raise Conflict("attach", container.name, "the container is not running", "pycontainer start starts it")
    channel, pid = _follow(settings, container, connection, answer)
    relay = AttachRelay(connection, channel, tty=tty, keys=keys if tty and interactive else None, proxy=proxy)
    if stdin >= 0:
        relay.add_input(0, stdin)
    try:
        relay.begin()
        return relay.serve()
    finally:
        os.kill(pid, signals.SIGKILL)
        os.waitpid(pid, 0)


def _follow(
    settings: Settings, container: Container, connection: _socket.socket, position: Message
) -> tuple[_socket.socket, int]:
    """A child that writes the log from a position on; a channel on which it says how the program ended, and its pid."""
    ours, theirs = descriptors.pair()
    pid = os.fork()
    if pid > 0:
        theirs.close()
        return ours, pid
    try:
        process.set_parent_death_signal(signals.SIGKILL)
        # What ends a foreground job is for the parent to pass on.
        signals.ignore([signals.SIGINT, signals.SIGQUIT, signals.SIGTERM, signals.SIGHUP])
        try:
            status = _copy(settings, container, connection, position)
            answer: Message = {"say": "exit", "status": status}
        except Exception as error:
            answer = messages.pack_error(error)
        messages.send(theirs, answer)
    finally:
        os._exit(0)


def _copy(settings: Settings, container: Container, connection: _socket.socket, position: Message) -> int:
    from pycontainer.cli.logs import Writer
    from pycontainer.engine.logs import Follower
    from pycontainer.monitor.log_reader import LogReader

    reader = LogReader(settings.log(container.id), position["inode"], position["offset"])
    follower = Follower(settings.container_directory(container.id), reader, connection)
    writer = Writer()
    for record in follower.records():
        writer.write(record)
    if follower.status is None:
        cause = "the pycontainer process that looked after it was killed"
        raise HostError("wait for the container", container.name, cause, "pycontainer ps -a shows what became of it")
    return follower.status


class AttachRelay(MonitorRelay):
    """Its news come from the child that writes the output; what it has to say goes to the monitor."""

    def __init__(
        self,
        connection: _socket.socket,
        channel: _socket.socket,
        *,
        tty: bool,
        keys: DetachKeys | None,
        proxy: bool,
    ) -> None:
        super().__init__(connection, tty=tty, keys=keys, proxy=proxy)
        self._end = channel.fileno()
        self._channel = channel

    def begin(self) -> None:
        # Another size first, and then the true one: a full-screen program draws itself anew.
        rows, columns = window_size()
        if self._tty and rows and columns:
            self._tell({"do": "resize", "rows": rows + 1, "columns": columns})
        super().begin()

    def notice_end(self) -> None:
        message, passed = messages.receive(self._channel)
        if message is None:
            raise HostError("show the output", "", "the process that writes it was killed")
        self.take_message(message, passed)
