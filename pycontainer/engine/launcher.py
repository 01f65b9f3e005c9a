"""The launcher: one process that has everything in memory and forks the monitors.

    client ── connect STATE/launcher.sock ──▶ launcher ── fork ──▶ a process that serves this one connection
                                                  └────── fork ──▶ the same for the next one: it waits already

Starting an interpreter and importing the engine takes longer than starting a container. So the first command that needs
it starts the launcher, as tmux starts its server, and every later one finds it warm; and the memory of a hundred
monitors is mostly the launcher's, shared. It keeps no state and never looks at what clients send: it accepts, forks,
and the child reads. When it has nothing to do it forks a child, and that one of its own, for the next client. Killing
it costs the next command the time to start another.

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
from pycontainer.monitor import errand, messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontainer.monitor.messages import Message

PROCESS_NAME = "pycontainer"
MARK = b"pycontainer.engine.launcher"  # in its command line

SPARE_NAME = "pyc-spare"

_IDLE = 600.0  # seconds
_REST = 0.05  # seconds without a client, until the process for the next one is made


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
    from pycontainer.engine import exec, repair, supervise, teardown  # noqa: F401
    from pycontainer.image import policy

    policy.prepare()
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
    ours = [lock, wake, wake_writer]
    spare: _socket.socket | None = None
    rested = False
    while True:
        events = dict(poll.poll((_IDLE if rested else _REST) * 1000))
        if not events and rested:
            break
        if not events:
            # Now, because nobody waits for it, and the last start has both processors for itself.
            rested = True
            spare = spare or _make_spare(settings, listener, ours)
        if listener.fileno() in events:
            if _stamps() != stamps:
                break
            _serve_in_child(settings, descriptors.accept(listener), spare, listener, ours)
            if spare is not None:
                spare.close()
            spare, rested = None, False
        if wake in events:
            os.read(wake, 4096)
            if _reap(repairer):
                repairer = _repair(settings, listener, ours)
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


def _serve_in_child(
    settings: Settings,
    connection: _socket.socket,
    spare: _socket.socket | None,
    listener: _socket.socket,
    ours: list[int],
) -> None:
    """Have the connection served by the spare process, or else by a new one."""
    try:
        if descriptors.peer(connection)[1] != 0:
            return
        if spare is not None:
            try:
                messages.send(spare, {}, [connection.fileno()])
                return
            except OSError:
                # It was killed.
                pass
        if os.fork() == 0:
            status = 1
            try:
                _become_child(listener, ours)
                _serve_connection(settings, connection, None)
                status = 0
            finally:
                os._exit(status)
    except OSError:
        # No process to be had. The client sees its connection end, and tries again.
        pass
    finally:
        connection.close()


def _make_spare(settings: Settings, listener: _socket.socket, ours: list[int]) -> _socket.socket | None:
    """Fork a process, and a child of it, for the next client: a channel to it, None where there is none to be had.

    It ends when the channel is closed.
    """
    try:
        channel, theirs = descriptors.pair()
    except OSError:
        return None
    try:
        if os.fork() == 0:
            status = 1
            try:
                channel.close()
                _become_child(listener, ours)
                _wait_for_client(settings, theirs)
                status = 0
            finally:
                os._exit(status)
    except OSError:
        channel.close()
        return None
    finally:
        theirs.close()
    return channel


def _wait_for_client(settings: Settings, channel: _socket.socket) -> None:
    from pycontainer.engine import start

    process.set_name(SPARE_NAME)
    work = start.Work(settings)
    worker = errand.Worker(work.handle, work.prepare)
    _, passed = messages.receive(channel)
    process.set_name(start.MONITOR_NAME)
    channel.close()
    if passed:
        _serve_connection(settings, descriptors.adopt(passed[0]), worker)


# The process that serves one connection.


class Client:
    """What a process of the launcher's has of the one client that it serves.

    body    a memfd with its request
    passed  the other descriptors that came with it
    moved   this process has entered the client's namespaces
    worker  a child for a monitor to use, or None
    """

    def __init__(self, settings: Settings, connection: _socket.socket, worker: errand.Worker | None) -> None:
        """Raises OSError."""
        self.settings = settings
        self.connection = connection
        self.worker = worker
        self.moved = False
        _, (self.body, *self.passed) = messages.receive(connection)


def _serve_connection(settings: Settings, connection: _socket.socket, worker: errand.Worker | None) -> None:
    try:
        client = Client(settings, connection, worker)
        request = messages.read_request(client.body)
        # Because the paths and the network that it names are its own.
        client.moved = namespace.join(descriptors.peer(connection)[0])
        messages.send(connection, {"say": "accepted"})
    except (OSError, ValueError):
        return
    gc.enable()
    try:
        _VERBS[request["do"]](client, request)
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


def _run(client: Client, request: Message) -> None:
    """`run` and `start`: this process becomes the container's monitor."""
    from pycontainer.engine import start, supervise

    process.set_name(start.MONITOR_NAME)
    pipes = [client.passed.pop(0) if given else -1 for given in request["pipes"]]
    asked = supervise.Request(
        client.connection,
        client.body,
        container_id=request.get("id", ""),
        pipes=(pipes[0], pipes[1], pipes[2]),
        journal=client.passed.pop(0) if request["explained"] else -1,
        to_the_end=request["records"] and not request["detach"],
        moved=client.moved,
    )
    supervise.serve(client.settings, asked, client.worker)


def _exec(client: Client, request: Message) -> None:
    from pycontainer.engine import exec

    process.set_name("pyc-exec")
    os.close(client.body)
    if client.worker is not None:
        client.worker.close()
    exec.serve(client.settings, client.connection, request, client.passed)


def _serve_names(client: Client, request: Message) -> None:
    from pycontainer.engine import name_server

    os.close(client.body)
    if client.worker is not None:
        client.worker.close()
    name_server.serve(client.settings, client.connection, request, client.passed[0])


_VERBS = {"run": _run, "exec": _exec, "name server": _serve_names}
