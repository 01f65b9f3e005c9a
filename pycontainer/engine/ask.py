"""What a client asks of the launcher, which it starts if need be: launcher.py.

Every `run` and `exec` imports this, so it imports little.
"""

from __future__ import annotations

import os
import sys
import time

from pycontainer.errors import HostError
from pycontainer.kernel import descriptors
from pycontainer.monitor import messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Sequence

    from pycontainer.engine.settings import Settings
    from pycontainer.monitor.messages import Message

SOCKET = "launcher.sock"
_PATIENCE = 20.0  # seconds for a launcher to start


def ask(settings: Settings, request: Message, passed: Sequence[int] = ()) -> _socket.socket:
    """A connection to a new process of the launcher's that does what `request` says, with copies of these descriptors.

    Starts the launcher if need be. Raises HostError, OSError.
    """
    body = messages.write_request(request)
    try:
        deadline = time.monotonic() + _PATIENCE
        while True:
            connection = _connect(settings)
            if connection is not None:
                try:
                    messages.send(connection, {"do": "serve"}, [body, *passed])
                    answer, _ = messages.receive(connection)
                except OSError:
                    answer = None
                if answer is not None:
                    return connection
                # It was about to end itself, or had no process to give: nothing was done.
                connection.close()
            if time.monotonic() > deadline:
                break
            _spawn(settings)
    finally:
        os.close(body)
    hint = f"PYCONTAINER_DEBUG=1 shows why; remove {settings.state}/{SOCKET} if it is not ours"
    raise HostError("start the launcher", f"{settings.state}/{SOCKET}", "it does not answer", hint)


def _connect(settings: Settings) -> _socket.socket | None:
    try:
        return descriptors.connect(settings.state, SOCKET)
    except (FileNotFoundError, ConnectionRefusedError):
        return None


def _spawn(settings: Settings) -> None:
    """Start a launcher that is nobody's child, and wait until it serves or finds that another one does."""
    if os.geteuid() != 0:
        raise HostError("pycontainer must be run as root", hint="put sudo before the command")
    os.makedirs(settings.state, 0o700, exist_ok=True)
    ready, ready_writer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            if os.fork() == 0:
                _become_launcher(settings, ready_writer)
        finally:
            os._exit(0)
    os.close(ready_writer)
    os.waitpid(pid, 0)
    # End of file, when it serves, and when it has ended.
    os.read(ready, 1)
    os.close(ready)


def _become_launcher(settings: Settings, ready: int) -> None:
    """Execute the interpreter anew, because what this process has in memory and in its environment is its caller's."""
    from pycontainer.kernel import interpreter, process

    number = os.dup2(ready, 3)
    null = os.open("/dev/null", os.O_RDWR)
    for standard in (0, 1) if os.environ.get("PYCONTAINER_DEBUG") else (0, 1, 2):
        os.dup2(null, standard)
    process.close_range_cloexec(4)
    code = f"import sys; sys.path[:] = {sys.path!r}; from pycontainer.engine.launcher import main; main({number})"
    kept = {name: value for name, value in os.environ.items() if name.startswith("PYCONTAINER_")}
    kept.update(settings.environment(), PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    interpreter.execute_read_only([sys.executable, "-IS", "-c", code], kept)
