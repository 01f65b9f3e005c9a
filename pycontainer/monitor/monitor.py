"""The process that looks after one container: carries its input and output, serves its clients, waits for its end, and
runs its health check.

It is given a started container as descriptors, and knows no image, no network and no database. What it does itself is
little, because it may wait for months: whatever takes more, a child of its own does (errand.py).
"""

from __future__ import annotations

import os
import time

from pycontainer.errors import Conflict, UsageError
from pycontainer.kernel import cgroup, signals
from pycontainer.kernel.event_loop import READ, EventLoop, Timer
from pycontainer.monitor import messages
from pycontainer.monitor.checks import CheckRunner
from pycontainer.monitor.health import HealthCheck
from pycontainer.monitor.server import Server
from pycontainer.monitor.stdio import Stdio
from pycontainer.monitor.witness import Witness
from pycontainer.runtime import deliver

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from typing import Any

    from pycontainer.monitor.log_writer import LogWriter
    from pycontainer.monitor.messages import Message


_MOST_SENT = 20


class Recorder:
    """What a monitor tells its engine. Each may raise OSError or PycontainerError, which the asking client is told."""

    def stopped(self) -> None:
        """A user ends the container."""

    def signalled(self, number: int) -> None:
        """A user sent a signal."""

    def paused(self, paused: bool) -> None:
        """The processes are frozen, or go on."""

    def health(self, health: dict[str, Any], changed: bool) -> None:
        """A health check has ended; `changed` when the status is another one."""

    def oom_killed(self, witness: Witness) -> None:
        """The OOM killer has ended a process of the container, which may run on."""


class Run:
    """One run of a container, from its start to its end.

    pidfd         of its first process, which is a child of the monitor's
    ends          ours of its standard streams: ends.py
    state         its directory in the runtime's state, for those who join it
    cgroup        its directory, "" without one
    terminal      whether the program has one
    interactive   whether it has a standard input
    once          the end of the first client's input is the program's
    stop_signal   sent by `stop`
    stop_timeout  seconds until `stop` kills, negative for never
    check         the health check, or None
    """

    __slots__ = (
        "cgroup", "check", "ends", "interactive", "once", "pidfd", "state", "stop_signal", "stop_timeout", "terminal",
    )  # fmt: skip

    def __init__(self, described: Message, descriptors: list[int]) -> None:
        self.pidfd, *self.ends = descriptors
        self.state: str = described["state"]
        self.cgroup: str = described["cgroup"]
        self.terminal: bool = described["terminal"]
        self.interactive: bool = described["interactive"]
        self.once: bool = described["once"]
        self.stop_signal: int = described["stop_signal"]
        self.stop_timeout: float = described["stop_timeout"]
        self.check = HealthCheck(**described["check"]) if described["check"] else None


class Monitor:
    """One container, over all of its runs until it is put away.

    is_stopping  somebody asked for its end: no restart
    log          where its output is kept, or None
    witness      of the last run, to be closed by `release`; None where there is no cgroup
    sent         (signal, on whose behalf) of what was sent to the program in the last run
    ended_by     the signal that ended the program in the last run, 0 where it ended by itself
    """

    def __init__(self, container_id: str, recorder: Recorder) -> None:
        self.loop = EventLoop()
        self.server = Server(self.loop, self._handle)
        self.is_stopping = False
        self.log: LogWriter | None = None
        self.witness: Witness | None = None
        self.sent: list[tuple[int, str]] = []
        self.ended_by = 0
        self._id = container_id
        self._recorder = recorder
        self._run: Run | None = None
        self._stdio: Stdio | None = None
        self._checks: CheckRunner | None = None
        self._fatal = 0
        self._status: int | None = None
        self._killer: Timer | None = None
        self._wake, wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        # The machine is being shut down, or somebody wants this process to end: the container is stopped first.
        signals.report_to(wake_writer, [signals.SIGTERM, signals.SIGINT, signals.SIGHUP])
        self.loop.watch(self._wake, READ, self._take_signal)

    def serve(self, run: Run, pipes: tuple[int, int, int] = (-1, -1, -1)) -> int:
        """Look after a program from its start to its end: its exit status, 128 + n for signal n.

        pipes  of the client that runs it in the foreground, -1 for what it has not; they are closed in the end

        What the program has written last may still be on its way to that client: `flush`.
        """
        self._run, self._fatal, self._status = run, 0, None
        self.sent, self.ended_by = [], 0
        self._stdio = Stdio(
            self.loop,
            run.pidfd,
            run.ends,
            terminal=run.terminal,
            interactive=run.interactive,
            once=run.once,
            log=self.log.write if self.log is not None else None,
        )
        self._stdio.on_interrupt = self._interrupt  # type: ignore[method-assign]
        self._stdio.connect(*pipes)
        if run.check is not None:
            self._checks = CheckRunner(self.loop, run.state, run.check, self._recorder.health)
        if run.cgroup:
            self.witness = Witness(self.loop, run.cgroup, self._take_kill)
        self.loop.watch(run.pidfd, READ, self._take_end)
        status = self._wait()
        self._stdio.drain()
        if self._killer is not None:
            self._killer.cancel()
            self._killer = None
        if self._checks is not None:
            self._checks.close()
            self._checks = None
        self._run = None
        os.close(run.pidfd)
        return status

    def _wait(self) -> int:
        while self._status is None:
            self.loop.turn()
        return self._status

    def _take_end(self) -> None:
        assert self._run is not None
        self.loop.forget(self._run.pidfd)
        self._status, self.ended_by = deliver.reap(self._run.pidfd, self._fatal)

    def _take_kill(self) -> None:
        assert self.witness is not None
        self._recorder.oom_killed(self.witness)

    def release(self) -> None:
        """What was seen of the last run is known by now."""
        if self.witness is not None:
            self.witness.close()
            self.witness = None

    def finish(self, status: int, foreground: _socket.socket) -> None:
        """Tell every client that the container is down; the one in the foreground when it has got all of the output."""
        self.server.stop_listening()
        self.server.broadcast({"say": "exit", "status": status}, but=foreground)
        self.server.close(but=foreground)
        if self._stdio is not None and not self._stdio.is_flushed:
            self.server.send(foreground, {"say": "over"})
        self.flush()
        self.server.send(foreground, {"say": "exit", "status": status})

    def flush(self) -> None:
        """Let the foreground client take what is left of the last run."""
        if self._stdio is not None:
            while not self._stdio.is_flushed:
                self.loop.turn()
            self._stdio.close()
            self._stdio = None

    def pause_for(self, seconds: float) -> bool:
        """Serve clients for so long; False when somebody asked for the end of the container meanwhile."""
        deadline = time.monotonic() + seconds
        while not self.is_stopping and (left := deadline - time.monotonic()) > 0:
            self.loop.turn(left)
        return not self.is_stopping

    def announce_end(self, status: int) -> None:
        """Tell every client that the program has ended, and may begin again."""
        self.flush()
        self.server.broadcast({"say": "exit", "status": status})

    def _take_signal(self) -> None:
        os.read(self._wake, 4096)
        self._stop({}, "shutdown")

    # What clients may ask for: messages.py.

    def _handle(self, server: Server, client: _socket.socket, message: Message, passed: list[int]) -> None:
        request = message.get("do")
        if request == "attach" and len(passed) <= 1:
            self._attach(server, client, passed)
            return
        messages.close_all(passed)
        if request == "resize":
            if self._stdio is not None:
                self._stdio.resize(int(message["rows"]), int(message["columns"]))
        elif request == "signal":
            self._deliver(int(message["number"]), "client")
        elif request == "close":
            if self._stdio is not None:
                self._stdio.close_output(int(message["stream"]))
        elif request == "wait":
            # Being connected is all it takes: every client is told of the end.
            server.send(client, {"say": "done"})
        elif request == "samples":
            server.send(client, {"say": "done", "samples": self.witness.samples if self.witness is not None else []})
        else:
            self._obey(str(request), message)
            server.send(client, {"say": "done"})

    def _obey(self, request: str, message: Message) -> None:
        if request == "stop":
            try:
                self._recorder.stopped()
            finally:
                # As in `_kill`.
                self._stop(message)
        elif request == "kill":
            self._kill(int(message["number"]))
        elif request in ("pause", "unpause"):
            self._freeze(request == "pause")
        else:
            raise UsageError("ask the monitor", request, "unknown request")

    def _attach(self, server: Server, client: _socket.socket, passed: list[int]) -> None:
        """Another terminal: it reads the log from here on, and types into the program."""
        if self.log is None or self._stdio is None:
            messages.close_all(passed)
            if self.log is not None:
                raise Conflict("attach", self._id[:12], "it waits for its restart", "pycontainer logs -f waits with it")
            hint = "only the terminal that ran it in the foreground shows its output"
            raise Conflict("attach", self._id[:12], "it keeps no log (--log-driver none)", hint)
        for source in passed:
            self._stdio.connect_input(source)
        inode, offset = self.log.position()
        server.send(client, {"say": "done", "inode": inode, "offset": offset})

    def _deliver(self, number: int, sender: str) -> None:
        if self._run is None or self._status is not None:
            return
        self.sent = [*self.sent[-_MOST_SENT:], (number, sender)]
        if deliver.deliver(self._run.pidfd, number):
            self._fatal = number

    def _interrupt(self, number: int) -> None:
        self._deliver(number, "terminal")

    def _kill(self, number: int) -> None:
        if self._run is None or self._status is not None:
            if self.is_stopping:
                raise Conflict("kill container", self._id[:12], "it is ending already")
            self._recorder.stopped()
            self.is_stopping = True
            return
        is_end = number in (signals.SIGKILL, self._run.stop_signal)
        try:
            if is_end:
                self._recorder.stopped()
            self._recorder.signalled(number)
        finally:
            # Also where that cannot be recorded, because what fills the disk may be this very program.
            self.is_stopping = self.is_stopping or is_end
            self._deliver(number, "kill")
            if self.is_stopping and number == signals.SIGKILL:
                self._thaw()

    def _stop(self, message: Message, sender: str = "stop") -> None:
        self.is_stopping = True
        if self._run is None or self._status is not None:
            return
        self._deliver(message.get("signal") or self._run.stop_signal, sender)
        self._thaw()
        timeout = message.get("timeout")
        if timeout is None:
            timeout = self._run.stop_timeout
        if timeout >= 0 and self._killer is None:
            self._killer = self.loop.after(timeout, lambda: self._deliver(signals.SIGKILL, "timeout"))

    def _freeze(self, frozen: bool) -> None:
        if self._run is None or not self._run.cgroup:
            raise Conflict("pause container", self._id[:12], "it is not running")
        path = f"{self._run.cgroup}/cgroup.freeze"
        before = cgroup.read(path).strip() == "1"
        if before == frozen:
            raise Conflict("pause container", self._id[:12], "it is paused already" if frozen else "it is not paused")
        cgroup.write(path, str(int(frozen)))
        try:
            self._recorder.paused(frozen)
        except BaseException:
            cgroup.write(path, str(int(before)))
            raise

    def _thaw(self) -> None:
        """A frozen process cannot end by itself."""
        try:
            self._freeze(False)
        except Conflict:
            pass
