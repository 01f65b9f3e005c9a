"""Runs the command line with a fault in it, each time in a new fork of this process, which has imported all.

A request is one line of JSON on stdin, the answer one line on stdout:

    arguments   of the command line
    number      of the operation that the fault strikes, counted from 0 over parent and child; -1 for none
    fault       fail          it is not executed, and raises OSError
                fail-after    it is executed, and raises OSError then
                kill-before   the command line gets SIGKILL, and the operation is not executed
                kill-after    the same after it was executed
                kill-child    it is executed, and then the container's first process gets SIGKILL, if there is one
    errno       that the error has
    delay       seconds after which the command line gets `signal`; null for never
    signal      its number

    status      exit status of the command line, negative when a signal ended it
    seconds     how long it ran
    operations  [who, step, path] of all that were begun; `who` is parent or child
    stdout, stderr
    pid         what the command line's process id was
"""

from __future__ import annotations

import json
import mmap
import os
import select
import signal
import sys
import tempfile
import time
from typing import Any

# Imported here, so that no run pays for them.
import pycontainer.cli.app
import pycontainer.engine.run  # noqa: F401
from pycontainer.cli import main
from pycontainer.kernel.operation import Journal, Operation

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_perform = Journal.perform
_counter = mmap.mmap(-1, 8)
_current: Run


class Run:
    """One command line, as the processes see it that belong to it."""

    def __init__(self, request: dict[str, Any]) -> None:
        self.request = request
        self.pid = 0
        self.child = 0
        self.report_reader, self.report_writer = os.pipe2(os.O_CLOEXEC)
        self.answer_reader, self.answer_writer = os.pipe2(os.O_CLOEXEC)

    def report(self, *words: object) -> None:
        os.write(self.report_writer, (json.dumps(words) + "\n").encode())

    def kill(self, who: str) -> None:
        """Have a process struck from outside, because the child cannot reach its parent, nor really kill itself."""
        self.report("kill", who)
        os.read(self.answer_reader, 1)

    def perform(self, journal: Journal, operation: Operation) -> Any:
        number = int.from_bytes(_counter[:], "little")
        _counter[:] = (number + 1).to_bytes(8, "little")
        who = "parent" if os.getpid() == self.pid else "child"
        self.report("operation", who, operation.step, operation.path)
        fault = self.request["fault"] if number == self.request["number"] else ""
        if fault == "signal-before":
            self.kill("parent")
        if fault == "fail":
            operation.execute = self._fail  # type: ignore[method-assign]
        elif fault == "fail-after":
            execute = operation.execute

            def execute_and_fail() -> object:
                result = execute()
                # The child is born by an operation too, and is not told that it failed.
                return result if isinstance(result, tuple) and result[0] == 0 else self._fail()

            operation.execute = execute_and_fail  # type: ignore[method-assign]
        result = _perform(journal, operation)
        if isinstance(result, tuple) and operation.step.startswith("clone") and result[0]:
            self.report("child", result[0])
        if fault == "signal-after":
            self.kill("parent")
        elif fault == "kill-child":
            self.kill("child")
        return result

    def _fail(self) -> object:
        raise OSError(self.request["errno"], os.strerror(self.request["errno"]))


def _patched(journal: Journal, operation: Operation) -> Any:
    return _current.perform(journal, operation)


def serve(request: dict[str, Any]) -> dict[str, Any]:
    """Run one command line to its end."""
    global _current
    _counter[:] = bytes(8)
    _current = run = Run(request)
    output = [tempfile.TemporaryFile() for _ in range(2)]  # noqa: SIM115
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        run.pid = os.getpid()
        null = os.open("/dev/null", os.O_RDONLY)
        for number, descriptor in enumerate((null, output[0].fileno(), output[1].fileno())):
            os.dup2(descriptor, number)
        os.close(run.report_reader)
        os.close(run.answer_writer)
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
    os.close(run.report_writer)
    os.close(run.answer_reader)
    operations = _follow(run, pid, began)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    seconds = time.monotonic() - began
    operations += _drain(run)
    os.close(run.report_reader)
    os.close(run.answer_writer)
    texts = []
    for file in output:
        file.seek(0)
        texts.append(file.read().decode(errors="replace"))
        file.close()
    return {
        "status": status,
        "seconds": seconds,
        "operations": operations,
        "stdout": texts[0],
        "stderr": texts[1],
        "pid": pid,
    }


def _follow(run: Run, pid: int, began: float) -> list[list[str]]:
    """Kill who is to be killed, until the command line has ended; its operations."""
    pidfd = os.pidfd_open(pid)
    delay = run.request["delay"]
    operations: list[list[str]] = []
    buffer = b""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.register(run.report_reader, select.POLLIN)
    try:
        while True:
            timeout = None if delay is None else max(0.0, began + delay - time.monotonic()) * 1000
            ready = dict(poll.poll(timeout))
            if delay is not None and time.monotonic() - began >= delay:
                signal.pidfd_send_signal(pidfd, run.request["signal"])
                delay = None
            if ready.get(run.report_reader, 0) & select.POLLIN:
                *lines, buffer = (buffer + os.read(run.report_reader, 65536)).split(b"\n")
                for line in lines:
                    operations += _obey(run, pidfd, json.loads(line))
            elif pidfd in ready or run.report_reader in ready:
                return operations
    finally:
        os.close(pidfd)


def _obey(run: Run, pidfd: int, words: list[Any]) -> list[list[str]]:
    if words[0] == "operation":
        return [words[1:]]
    if words[0] == "child":
        run.child = words[1]
    elif words[1] == "child":
        if run.child:
            _kill(run.child)
        os.write(run.answer_writer, b"\0")
    else:
        signal.pidfd_send_signal(pidfd, run.request["signal"])
        if run.request["signal"] != signal.SIGKILL:
            os.write(run.answer_writer, b"\0")
    return []


def _kill(pid: int) -> None:
    """SIGKILL, and wait for its effect: the process is its parent's to reap."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    select.select([pidfd], [], [], 5)
    os.close(pidfd)


def _drain(run: Run) -> list[list[str]]:
    """What was reported in the last moment, without waiting for a child that lives on."""
    os.set_blocking(run.report_reader, False)
    try:
        data = os.read(run.report_reader, 1 << 20)
    except BlockingIOError:
        return []
    return [words[1:] for line in data.splitlines() if (words := json.loads(line))[0] == "operation"]


if __name__ == "__main__":
    Journal.perform = _patched  # type: ignore[method-assign]
    defaults = {"number": -1, "fault": "", "errno": 28, "delay": None, "signal": signal.SIGKILL}
    for text in sys.stdin:
        print(json.dumps(serve(defaults | json.loads(text))), flush=True)
