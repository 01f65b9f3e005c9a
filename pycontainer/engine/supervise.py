"""What a monitor process does: one container from its start through all of its restarts to its end.

    take the owner's lock
    ┌▶ begin (errand) ──▶ look after the program ──▶ end (errand) ── no restart ──▶ tell the clients, give up the lock
    └───────────── wait, and serve clients ◀──────── restart

Everything here runs in a process of its own, which the launcher has forked. What it touches in memory is no longer
shared with the launcher, and it may live for months; so it does nothing itself that a child can do for it: start.py.
"""

from __future__ import annotations

import os
import time

from pycontainer.engine import containers, create, start
from pycontainer.engine.database import open_database
from pycontainer.engine.relaying import Relaying
from pycontainer.engine.restart import Backoff
from pycontainer.engine.settings import Settings
from pycontainer.engine.wal_index import is_no_space
from pycontainer.errors import Conflict, HostError, PycontainerError
from pycontainer.monitor import errand, messages
from pycontainer.monitor.log_writer import LogWriter
from pycontainer.monitor.monitor import Monitor, Recorder, Run
from pycontainer.monitor.witness import Witness

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable, Sequence
    from typing import Any

    from pycontainer.monitor.messages import Message

_PATIENCE = 2.0  # seconds


class Request:
    """One `run` or `start` as it came from a client.

    body          what it asked for, for start.py to read
    container_id  the one to start; "" to make a new one
    pipes         of a client that waits for its end: the program's input, output, errors; -1 for none
    journal       descriptor of where the steps are explained, -1 for nowhere
    to_the_end    whether those are explained, too, that put it away
    moved         this process has entered the client's namespaces
    """

    def __init__(
        self,
        client: _socket.socket,
        body: int,
        *,
        container_id: str,
        pipes: tuple[int, int, int],
        journal: int,
        to_the_end: bool,
        moved: bool,
    ) -> None:
        self.client = client
        self.container_id = container_id
        self.pipes = pipes
        self.moved = moved
        self._passed = [body] if journal < 0 else [body, journal]
        self._explained = [os.dup(journal)] if journal >= 0 and to_the_end else []

    def take(self) -> list[int]:
        """The descriptors for a start, which the first one gets; `release` them."""
        return [self.client.fileno(), *self._passed] if self._passed else []

    def release(self) -> None:
        """Keep nothing of the start but the client. May be called twice."""
        messages.close_all(self._passed)
        self._passed = []

    def explained(self) -> list[int]:
        """Where the end of the first run is explained, if it is: the caller's to close."""
        found, self._explained = self._explained, []
        return found


def serve(settings: Settings, request: Request, worker: errand.Worker | None) -> None:
    """Run the container until it is put away; what keeps it from being started is the client's answer.

    worker  one that has nothing to do yet, if there is one

    Raises Conflict, OSError.
    """
    container_id = request.container_id or create.new_id()
    owner = (
        _become_owner(settings, container_id) if request.container_id else containers.lock(settings.state, container_id)
    )
    supervisor = Supervisor(settings, request, container_id, worker)
    status = -1
    try:
        status = supervisor.run()
        answer = None
    except (PycontainerError, OSError) as error:
        answer = messages.pack_error(error)
    supervisor.monitor.server.stop_listening()
    if supervisor.is_put_away:
        supervisor.give_ports_up()
        containers.unlock(settings.state, container_id, owner)
    # By now nothing is left that --rm, or a next start, would meet. (Otherwise the lock's file tells the next command.)
    if answer is None:
        supervisor.monitor.finish(status, request.client)
    else:
        try:
            messages.send(request.client, answer)
        except OSError:
            # It has gone.
            pass
    supervisor.close()


def _become_owner(settings: Settings, container_id: str) -> int:
    """Take the lock of a container that exists. Raises Conflict, OSError."""
    deadline = time.monotonic() + _PATIENCE
    while (owner := containers.try_lock(settings.state, container_id)) is None:
        # It may be a command that only looks whether there is something to repair.
        connection = open_database(settings.root)
        is_owned = containers.get(connection, container_id).status in containers.OWNED
        connection.close()
        if is_owned or time.monotonic() > deadline:
            raise Conflict("start container", container_id[:12], "it is running already, or being removed")
        time.sleep(0.01)
    return owner


class Supervisor(Recorder):
    """One container. Its process holds the container's lock.

    is_put_away  nothing of it runs any more, and its resources are returned
    """

    def __init__(self, settings: Settings, request: Request, container_id: str, worker: errand.Worker | None) -> None:
        self.monitor = Monitor(container_id, self)
        self.is_put_away = False
        self._settings = settings
        self._request = request
        self._id = container_id
        # Descriptors that keep ports of the host's for it.
        self._reserved: list[int] = []
        self._relaying: Relaying | None = None
        self._worker = worker
        if worker is not None:
            worker.watch(self.monitor.loop)

    def run(self) -> int:
        """Start it, and again as its policy says; the last exit status. Raises what kept it from a start, OSError."""
        monitor, request = self.monitor, self._request
        backoff = Backoff()
        pipes = request.pipes
        first = True
        while True:
            begun = time.monotonic()
            run = self._begin()
            if first:
                first = False
                monitor.server.listen(self._settings.monitors, self._id)
                monitor.server.adopt(request.client)
                monitor.server.send(request.client, {"say": "started"})
            status = monitor.serve(run, pipes)
            pipes = (-1, -1, -1)
            if not self._end(status):
                return status
            monitor.announce_end(status)
            if not monitor.pause_for(backoff.next(time.monotonic() - begun)):
                self._end(status)
                return status

    def _begin(self) -> Run:
        """Start it by a child. Raises PycontainerError, OSError; then it is put away."""
        try:
            message = {"do": "begin", "id": self._id, "moved": self._request.moved}
            described, passed = self._ask(message, self._request.take())
        except (PycontainerError, OSError) as error:
            status = error.exit_status if isinstance(error, PycontainerError) else 125
            self._ask({"do": "give up", "id": self._id, "status": status, "error": str(error)})
            self.is_put_away = True
            raise
        finally:
            self._request.release()
        if self.monitor.log is None and described["log"]:
            self.monitor.log = LogWriter(*described["log"])
        ends = len(passed) - described["reserved"]
        self._keep(passed[ends:])
        return Run(described, passed[:ends])

    def _keep(self, reserved: list[int]) -> None:
        """Hold the ports that the first start has reserved."""
        if reserved:
            self._reserved = reserved
            self._relaying = Relaying(self._settings, self._id, self.monitor.loop, reserved)

    def give_ports_up(self) -> None:
        """From now on the host's ports are anybody's. May be called twice."""
        if self._relaying is not None:
            self._relaying.close()
        messages.close_all(self._reserved)
        self._reserved = []

    def _end(self, status: int) -> bool:
        """Record the end of a run and return what it held, by a child; whether it is to be started again."""
        stopping = self.monitor.is_stopping
        message = {"do": "end", "id": self._id, "status": status, "stopping": stopping, **self._account()}
        witness = self.monitor.witness
        passed = {"log": witness.log} if witness is not None and witness.log >= 0 else {}
        explained = self._request.explained()
        passed |= dict(zip(("journal",), explained, strict=False))
        message["passed"] = list(passed)
        try:
            answer, _ = self._ask(message, list(passed.values()))
        except OSError as error:
            if not is_no_space(error):
                raise
            # The child has the root file system mounted, and with it what it removed: another one finds it free.
            self.close()
            answer, _ = self._ask(message, list(passed.values()))
        finally:
            messages.close_all(explained)
        self.monitor.release()
        if answer["oom"]:
            self.monitor.server.send(self._request.client, {"say": "notice", "text": answer["oom"]})
        self.is_put_away = not answer["restart"]
        if not answer["removed"]:
            # It has the root file system mounted, which must not be so twice.
            self.close()
        return bool(answer["restart"])

    def _account(self) -> Message:
        """What the monitor has seen of the run, for evidence.py."""
        witness = self.monitor.witness
        return {
            "seen": {
                "ended_by": self.monitor.ended_by,
                "sent": self.monitor.sent,
                "samples": witness.samples if witness is not None else [],
            }
        }

    def _ask(self, message: messages.Message, passed: Sequence[int] = ()) -> tuple[messages.Message, list[int]]:
        """Have it done by a child, a new one where there is none. Raises what it raises, HostError, OSError."""
        for _ in range(2):
            if self._worker is None:
                self._worker = errand.Worker(start.Work(self._settings).handle)
                self._worker.watch(self.monitor.loop)
            answer = self._worker.ask(message, passed)
            if answer is not None:
                return answer
            self.close()
        raise HostError("look after the container", self._id[:12], "a child of its monitor was killed")

    def close(self) -> None:
        """Wait for the child that may still be there. May be called twice."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    # What the monitor has to tell.

    def stopped(self) -> None:
        self._record(containers.set_stopped)

    def signalled(self, number: int) -> None:
        self._record(containers.note, "kill", signal=str(number))

    def paused(self, paused: bool) -> None:
        self._record(containers.set_paused, paused)

    def health(self, health: dict[str, Any], changed: bool) -> None:
        self._record(containers.set_health, health, changed=changed)

    def oom_killed(self, witness: Witness) -> None:
        self._do(lambda: start.note_oom(self._settings, self._id, witness.log))

    def _record(self, function: Callable[..., object], *arguments: Any, **options: Any) -> None:
        """Call `function(connection, id, …)` in a transaction, by a child."""
        self._do(lambda: start.record(self._settings, function, self._id, *arguments, **options))

    def _do(self, function: Callable[[], None]) -> None:
        errand.run(lambda: (function(), ({}, []))[1])  # type: ignore[func-returns-value]
