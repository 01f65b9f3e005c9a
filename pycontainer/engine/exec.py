"""`exec`: one more program in a running container. Served by a process of the launcher's, which waits for its end.

The program has the client's own pipes, or a terminal whose master goes to the client: nothing copies in between.
"""

from __future__ import annotations

import os
import select

from pycontainer.engine import containers, user
from pycontainer.engine.database import open_database
from pycontainer.engine.settings import Settings
from pycontainer.errors import Conflict, UsageError
from pycontainer.image.store import Store
from pycontainer.kernel import capability, descriptors, signals
from pycontainer.kernel.operation import Journal
from pycontainer.kernel.undo import Undo
from pycontainer.monitor import messages
from pycontainer.runtime import deliver, join, spec, state
from pycontainer.runtime.fields import Fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    import sqlite3
    from typing import Any

    from pycontainer.monitor.messages import Message


def serve(settings: Settings, client: _socket.socket, request: Message, passed: list[int]) -> None:
    """Run the program that `request` describes and wait for its end.

    passed  its 0, 1 and 2, none for a terminal; then where it is explained, if it is

    Raises NotFound, Conflict, UsageError, CommandNotFound, CommandNotExecutable, StepFailed, OSError.
    """
    journal = Journal(passed.pop() if request["explained"] else None, bold=request["bold"], records=request["records"])
    connection = open_database(settings.root)
    container = containers.find(connection, request["name"])
    if container.status != "running":
        hint = "pycontainer unpause lets it go on" if container.status == "paused" else "pycontainer start starts it"
        raise Conflict("exec", container.name, f"the container is {container.status}", hint)
    container_state = state.load(settings.runtime_root, container.id)
    program = _program(settings, connection, container, container_state, request)
    for descriptor in passed:
        # It belongs to the program's user, so that /dev/stdout can be opened.
        os.fchown(descriptor, container.id_base + program.uid, -1)
    master, process = _execute(container_state, program, request, passed, journal)
    journal.close()
    words = " ".join(request["args"])
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        containers.note(connection, container.id, f"exec_start: {words}")
    given = [master] if master is not None and not request["detach"] else []
    try:
        messages.send(client, {"say": "started"}, given)
    except OSError:
        # The client has gone: the program goes on, as everything that runs in a container.
        pass
    messages.close_all(given)
    connection.close()
    status = _wait(process, client, master if not given else None)
    try:
        messages.send(client, {"say": "exit", "status": status})
    except OSError:
        pass


def _program(
    settings: Settings,
    connection: sqlite3.Connection,
    container: containers.Container,
    container_state: state.State,
    request: Message,
) -> spec.Process:
    """The container's own process with what was asked for in place."""
    process = dict(spec.read(settings.container_directory(container.id))["process"])
    environment = dict(entry.split("=", 1) for entry in process.get("env") or [] if "=" in entry)
    rows, columns = request["size"]
    changes: dict[str, Any] = {"args": request["args"], "terminal": request["tty"]}
    changes["consoleSize"] = {"height": rows, "width": columns}
    if request.get("user") is not None:
        root = join.open_root(container_state)
        try:
            who = user.resolve(root, request["user"])
        finally:
            os.close(root)
        changes["user"] = {"uid": who.uid, "gid": who.gid, "additionalGids": who.groups}
        granted = process["capabilities"]["bounding"] if who.uid == 0 else []
        changes["capabilities"] = {**process["capabilities"], "effective": granted, "permitted": granted}
        if not _names_home(settings, connection, container):
            environment["HOME"] = who.home
    if request.get("privileged"):
        every = capability.available(bool(container.id_base))
        changes["capabilities"] = {
            "bounding": every,
            "effective": every,
            "permitted": every,
            "inheritable": [],
            "ambient": [],
        }
    if request["tty"]:
        environment.setdefault("TERM", "xterm")
    for text in request["env"]:
        key, equals, value = text.partition("=")
        if equals:
            environment[key] = value
        else:
            environment.pop(key, None)
    changes["env"] = [f"{key}={value}" for key, value in environment.items()]
    if request.get("workdir"):
        if not request["workdir"].startswith("/"):
            raise UsageError("--workdir", request["workdir"], "must be an absolute path")
        changes["cwd"] = request["workdir"]
    return spec.Process(Fields({**process, **changes}, "process"))


def _names_home(settings: Settings, connection: sqlite3.Connection, container: containers.Container) -> bool:
    """Whether the image or the container's own -e says where home is, for every user."""
    image = Store(settings.root, connection).get(container.image_id).config.get("config") or {}
    named = any(entry.startswith("HOME=") for entry in image.get("Env") or [])
    return named or any(key == "HOME" for key, _ in container.config.process.environment)


def _execute(
    container_state: state.State, program: spec.Process, request: Message, passed: list[int], journal: Journal
) -> tuple[int | None, join.Joined]:
    """The terminal's master, None without one, and the process."""
    with Undo() as undo:
        for descriptor in passed:
            undo.push(os.close, descriptor)
        if request["tty"]:
            ours, theirs = descriptors.pair()
            undo.push(ours.close)
            undo.push(theirs.close)
            process = join.execute(container_state, program, journal, console=theirs)
            return descriptors.receive_descriptor(ours), process
        stdio = [*passed]
        while len(stdio) < 3:
            null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
            undo.push(os.close, null)
            stdio.append(null)
        return None, join.execute(container_state, program, journal, stdio=(stdio[0], stdio[1], stdio[2]))


def _wait(process: join.Joined, client: _socket.socket, master: int | None) -> int:
    """The exit status. Meanwhile the client's signals are passed on, and a terminal that is nobody's is emptied."""
    poll = select.poll()
    for descriptor in (process.pidfd, client.fileno(), *([] if master is None else [master])):
        poll.register(descriptor, select.POLLIN)
    while True:
        ready = dict(poll.poll())
        if process.pidfd in ready:
            return deliver.wait(process.pidfd, 0)
        if master in ready:
            _discard(master, poll)
            continue
        message, passed = messages.receive(client)
        messages.close_all(passed)
        if message is None:
            poll.unregister(client.fileno())
        elif message.get("do") == "signal":
            signals.send(process.pidfd, int(message["number"]))


def _discard(master: int, poll: select.poll) -> None:
    try:
        os.read(master, 1 << 16)
    except OSError:
        # EIO: nobody has the terminal open.
        poll.unregister(master)
