"""Runs the command line with a fault in it, each time in a new fork of this process, which has imported all.

The launcher is a fork of this process too, so that the fault can strike in what it forks: the monitor, the errand by
which the monitor starts the container, and the container's first process.

The first line on stdout is the launcher's pid. Then a request is one line of JSON on stdin, the answer one on stdout:

    arguments   of the command line
    number      of the operation that the fault strikes, counted from 0 over errand and first process; -1 for none
    fault       fail          it is not executed, and raises OSError
                fail-after    it is executed, and raises OSError then
                before        `victim` gets `signal`, and then it is executed, if anybody lives to do it
                after         the same after it was executed
    victim      client, monitor, errand or child
    errno       that the error has
    delay       seconds after which `victim` (or else the client) gets `signal`; null for never
    signal      its number

    status      exit status of the command line, negative when a signal ended it
    seconds     how long it ran
    operations  [who, step, path] of all that were begun; `who` is errand or child
    stdout, stderr
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import select
import signal
import sys
import tempfile
import time
from typing import Any

# All that follows is imported here, so that no run pays for it.
import pycontainer.cli.commands
import pycontainer.cli.launch
import pycontainer.cli.run
import pycontainer.engine.exec
import pycontainer.engine.supervise  # noqa: F401
from pycontainer.cli import main
from pycontainer.engine import launcher
from pycontainer.engine.settings import Settings
from pycontainer.kernel.operation import Journal, Operation

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
DEFAULTS = {
    "fault": "", "victim": "client", "signal": int(signal.SIGKILL), "number": -1, "errno": 0, "delay": None,
}  # fmt: skip

PUTS_AWAY = (
    "end the processes", "remove cgroup", "forget container", "remove the container's files",
    "remove the volume's files",
)  # fmt: skip

_perform = Journal.perform
# Shared with all that is forked: the number of the next operation, and the request.
_counter = mmap.mmap(-1, 8)
_request = mmap.mmap(-1, 1 << 16)
_lock = tempfile.TemporaryFile()  # noqa: SIM115
_report_reader, _report_writer = os.pipe2(os.O_CLOEXEC)
_answer_reader, _answer_writer = os.pipe2(os.O_CLOEXEC)


def _report(*words: object) -> None:
    os.write(_report_writer, (json.dumps(words) + "\n").encode())


def _strike() -> None:
    """Have the victim struck from outside, because the child cannot reach the others."""
    _report("strike")
    os.read(_answer_reader, 1)


def _patched(journal: Journal, operation: Operation) -> Any:
    request = json.loads(_request[:].rstrip(b"\0"))
    if operation.step in PUTS_AWAY:
        # It undoes what failed before, and comes after the program's end: what is struck then is struck at a moment.
        return _perform(journal, operation)
    # Errand and first process come here at the same time.
    fcntl.lockf(_lock, fcntl.LOCK_EX)
    number = int.from_bytes(_counter[:], "little")
    _counter[:] = (number + 1).to_bytes(8, "little")
    fcntl.lockf(_lock, fcntl.LOCK_UN)
    who = "child" if os.getpid() == 1 else "errand"
    _report("operation", who, operation.step, operation.path, os.getpid(), os.getppid())
    fault = request["fault"] if number == request["number"] else ""

    def fail() -> object:
        raise OSError(request["errno"], os.strerror(request["errno"]))

    if fault == "before":
        _strike()
    if fault == "fail":
        operation.execute = fail  # type: ignore[method-assign]
    elif fault == "fail-after":
        execute = operation.execute

        def execute_and_fail() -> object:
            result = execute()
            # The child is born by an operation too, and is not told that it failed.
            return result if isinstance(result, tuple) and result[0] == 0 else fail()

        operation.execute = execute_and_fail  # type: ignore[method-assign]
    result = _perform(journal, operation)
    if isinstance(result, tuple) and operation.step.startswith("clone") and result[0]:
        _report("child", result[0])
    if fault == "after":
        _strike()
    return result


class Run:
    """One command line, as this process follows it: the pids of those who can be struck."""

    def __init__(self, request: dict[str, Any]) -> None:
        self.request = {**DEFAULTS, **request}
        self.victims: dict[str, int] = {}
        self.operations: list[list[str]] = []
        _counter[:] = bytes(8)
        # Who struck itself has not read the answer, and the next one would take it for its own.
        while select.select([_answer_reader], [], [], 0)[0]:
            os.read(_answer_reader, 1)
        _request[:] = json.dumps(self.request).encode().ljust(len(_request), b"\0")

    def follow(self, pidfd: int, began: float) -> None:
        """Strike who is to be struck, until the command line has ended."""
        delay = self.request["delay"]
        buffer = b""
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.register(_report_reader, select.POLLIN)
        while True:
            timeout = None if delay is None else max(0.0, began + delay - time.monotonic()) * 1000
            ready = dict(poll.poll(timeout))
            if delay is not None and time.monotonic() - began >= delay:
                self.strike()
                delay = None
            if _report_reader in ready:
                *lines, buffer = (buffer + os.read(_report_reader, 65536)).split(b"\n")
                for line in lines:
                    self.obey(json.loads(line))
            elif pidfd in ready:
                return

    def obey(self, words: list[Any]) -> None:
        if words[0] == "operation":
            self.operations.append(words[1:4])
            if words[1] == "errand":
                self.victims["errand"], self.victims["monitor"] = words[4:]
        elif words[0] == "child":
            self.victims["child"] = words[1]
        else:
            self.strike()
            os.write(_answer_writer, b"\0")

    def strike(self) -> None:
        """Send the signal, and wait for the effect of a SIGKILL: the process is its parent's to reap."""
        pid = self.victims.get(self.request["victim"], 0)
        if not pid:
            return
        try:
            pidfd = os.pidfd_open(pid)
            signal.pidfd_send_signal(pidfd, self.request["signal"])
        except ProcessLookupError:
            return
        if self.request["signal"] == signal.SIGKILL:
            select.select([pidfd], [], [], 5)
        os.close(pidfd)


def serve(request: dict[str, Any]) -> dict[str, Any]:
    """Run one command line to its end."""
    run = Run(request)
    output = [tempfile.TemporaryFile() for _ in range(2)]  # noqa: SIM115
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        null = os.open("/dev/null", os.O_RDONLY)
        for number, descriptor in enumerate((null, output[0].fileno(), output[1].fileno())):
            os.dup2(descriptor, number)
        sys.argv = ["pycontainer", *request["arguments"]]
        try:
            # What comes before it is this file's, and none of the command line's.
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
            main.main()
        except KeyboardInterrupt:
            os._exit(130)
        finally:
            os._exit(70)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
    run.victims["client"] = pid
    pidfd = os.pidfd_open(pid)
    run.follow(pidfd, began)
    os.close(pidfd)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    seconds = time.monotonic() - began
    texts = []
    for file in output:
        file.seek(0)
        texts.append(file.read().decode(errors="replace"))
        file.close()
    return {
        "status": status,
        "seconds": seconds,
        "operations": run.operations,
        "stdout": texts[0],
        "stderr": texts[1],
    }


def start_launcher() -> int:
    """The launcher of this installation; its pid."""
    os.makedirs(Settings().state, 0o700, exist_ok=True)
    ready, ready_writer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        os.close(0)
        os.open("/dev/null", os.O_RDWR)
        os.dup2(0, 1)
        launcher.main(ready_writer)
    os.close(ready_writer)
    os.read(ready, 1)
    os.close(ready)
    return pid


def answer(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def main_loop() -> None:
    """Serve until the end of stdin."""
    # It would end when a file of ours changes, and the one after it would have no faults.
    launcher._stamps = list  # type: ignore[assignment]
    Journal.perform = _patched  # type: ignore[method-assign,assignment]
    Run({})
    pid = start_launcher()
    answer(pid)
    for line in sys.stdin:
        answer(serve(json.loads(line)))
    os.kill(pid, signal.SIGTERM)
    os.waitpid(pid, 0)


if __name__ == "__main__":
    main_loop()
