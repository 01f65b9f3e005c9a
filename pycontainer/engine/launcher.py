"""The launcher: one process that has everything in memory and forks the monitors.

    client ── connect STATE/launcher.sock ──▶ launcher ── fork ──▶ a process that serves this one connection

Starting an interpreter and importing the engine takes longer than starting a container. So the first command that needs
it starts the launcher, as tmux starts its server, and every later one finds it warm; and the memory of a hundred
monitors is mostly the launcher's, shared. It keeps no state and never looks at what clients send: it accepts, forks,
and the child reads. Killing it costs the next command the time to start another.

When one of its processes is killed, it has another one look for what that has left (repair.py): the container of a
monitor that was killed need not wait for the next command.

It ends itself when nobody has asked for anything for some minutes, and when its code on disk has changed.
"""

from __future__ import annotations

import _socket
import fcntl
import gc
import os
import select
import sys
import time

from pycontainer.engine.ask import SOCKET
from pycontainer.engine.settings import Settings
from pycontainer.errors import PycontainerError, UsageError
from pycontainer.kernel import descriptors, environment, namespace, process, signals
from pycontainer.kernel.operation import Journal
from pycontainer.monitor import messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontainer.monitor.messages import Message

PROCESS_NAME = "pycontainer"
MARK = b"pycontainer.engine.launcher"  # in its command line

_IDLE = 600.0  # seconds
_NAMESPACES = ("mount", "network", "uts", "ipc")


def pid(settings: Settings) -> int:
    """The process that serves, 0 where none does. Raises OSError."""
    return descriptors.lock_holder(f"{settings.state}/launcher.lock")


def main(ready: int) -> None:
    """Serve until idle; `ready` is closed when clients may connect. Never returns."""
    try:
        environment.reset()
        serve(Settings(), ready)
    finally:
        os._exit(0)


def serve(settings: Settings, ready: int) -> None:
    """Fork a process for each connection. Raises OSError."""
    # Everything a child may need, imported before it is forked, so that it is shared.
    from pycontainer.engine import exec, repair, supervise  # noqa: F401

    process.set_name(PROCESS_NAME)
    lock = os.open(f"{settings.state}/launcher.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        # Another client's was faster, or the last one is about to end: the client tries again.
        time.sleep(0.01)
        return
    path = f"{settings.state}/{SOCKET}"
    _unlink(path)
    listener = descriptors.listen(settings.state, SOCKET)
    stamps = _stamps()
    os.close(ready)
    wake, wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signals.report_to(wake_writer, [signals.SIGCHLD])
    gc.collect()
    gc.freeze()
    poll = select.poll()
    poll.register(listener.fileno(), select.POLLIN)
    poll.register(wake, select.POLLIN)
    repairer = 0
    while events := dict(poll.poll(_IDLE * 1000)):
        if listener.fileno() in events:
            if _stamps() != stamps:
                break
            _fork(settings, listener, [lock, wake, wake_writer])
        if wake in events:
            os.read(wake, 4096)
            if _reap(repairer):
                repairer = _repair(settings, listener, [lock, wake, wake_writer])
    # The name goes first; who has connected before, or finds the code changed, is answered by a new launcher.
    _unlink(path)


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _stamps() -> list[tuple[int, int]]:
    """What tells this code from another version of it on disk: inode and time of each of its files."""
    found = []
    for name, module in list(sys.modules.items()):
        if name.startswith("pycontainer"):
            try:
                status = os.stat(module.__file__ or "")
            except OSError:
                return []
            found.append((status.st_ino, status.st_mtime_ns))
    return found


def _reap(repairer: int) -> bool:
    """Take notice of children that have ended; whether one of them, other than the repairer, was killed."""
    killed = False
    while True:
        try:
            ended, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return killed
        if ended == 0:
            return killed
        killed = killed or (ended != repairer and os.WIFSIGNALED(status))


def _repair(settings: Settings, listener: _socket.socket, ours: list[int]) -> int:
    """Put away what a killed process has left, by a child; its pid, 0 where none is to be had."""
    from pycontainer.engine.repair import open_engine

    try:
        child = os.fork()
    except OSError:
        return 0
    if child > 0:
        return child
    try:
        _become_child(listener, ours)
        # Whatever cannot be put away, the next command will meet, and say.
        open_engine(settings, lambda _: None)
    finally:
        os._exit(0)


def _become_child(listener: _socket.socket, ours: list[int]) -> None:
    signals.stop_reporting({signals.SIGCHLD: None})
    listener.close()
    for descriptor in ours:
        os.close(descriptor)


def _fork(settings: Settings, listener: _socket.socket, ours: list[int]) -> None:
    connection = descriptors.accept(listener)
    try:
        if descriptors.peer(connection)[1] == 0 and os.fork() == 0:
            status = 1
            try:
                _become_child(listener, ours)
                _serve_connection(settings, connection)
                status = 0
            finally:
                os._exit(status)
    except OSError:
        # No process to be had. The client sees its connection end, and tries again.
        pass
    finally:
        connection.close()


# The process that serves one connection.


def _serve_connection(settings: Settings, connection: _socket.socket) -> None:
    _, passed = messages.receive(connection)
    if not passed:
        return
    try:
        request = messages.read_request(passed[0])
        os.close(passed.pop(0))
        _join_namespaces(descriptors.peer(connection)[0])
        messages.send(connection, {"say": "accepted"})
    except (OSError, ValueError):
        return
    gc.enable()
    try:
        _VERBS[request["do"]](settings, connection, request, passed)
    except (PycontainerError, OSError, KeyError) as error:
        answer = messages.pack_error(error)
    except Exception as error:
        if os.environ.get("PYCONTAINER_DEBUG"):
            import traceback

            traceback.print_exc()
        # The client words it; nobody else would see it.
        answer = messages.pack_error(UsageError(type(error).__name__, "", str(error)))
    else:
        return
    try:
        messages.send(connection, answer)
    except OSError:
        pass


def _join_namespaces(pid: int) -> None:
    """Be where the client is, because the paths and the network that it names are its own. Raises OSError."""
    flags = 0
    for name in _NAMESPACES:
        file = namespace.FILES.get(name, name)
        if os.readlink(f"/proc/{pid}/ns/{file}") != os.readlink(f"/proc/self/ns/{file}"):
            flags |= namespace.TYPES[name]
    if flags:
        pidfd = os.pidfd_open(pid)
        try:
            namespace.setns(pidfd, flags)
        finally:
            os.close(pidfd)


def _run(settings: Settings, connection: _socket.socket, request: Message, passed: list[int]) -> None:
    """`run` and `start`: this process becomes the container's monitor."""
    from pycontainer.engine import supervise
    from pycontainer.engine.config import ContainerConfig
    from pycontainer.engine.start import Request

    process.set_name("pyc-monitor")
    pipes = [passed.pop(0) if given else -1 for given in request["pipes"]]
    journal = Journal(passed.pop(0) if passed else None, bold=request.get("bold", False))
    config = ContainerConfig.from_request(request["config"]) if "config" in request else None
    rows, columns = request["size"]
    asked = Request(
        connection,
        journal,
        config=config,
        container_id=request.get("id", ""),
        pipes=(pipes[0], pipes[1], pipes[2]),
        size=(rows, columns),
    )
    supervise.serve(settings, asked)


def _exec(settings: Settings, connection: _socket.socket, request: Message, passed: list[int]) -> None:
    from pycontainer.engine import exec

    process.set_name("pyc-exec")
    exec.serve(settings, connection, request, passed)


_VERBS = {"run": _run, "exec": _exec}
