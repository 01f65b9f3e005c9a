"""Command lines run by an interpreter that has its modules already, because most of a short command's time is their
import and its start, and the tests run some thousands: what `Pycontainer()` of conftest.py calls, and `Runtime()` of
root/test_runtime.py.

    warm.py DESCRIPTOR   serve the SOCK_SEQPACKET socket until its other end is closed

A request has the descriptors of a file with {"program", "words", "environment", "directory"}, of stdin, stdout and
stderr, and of a pipe, which gets two lines: the process's id, and its exit status as in subprocess.

A process so made has the server's limits, namespaces and locale: a test to which these matter starts conftest's COMMAND
itself. And it may have modules that it forgot to import: tests/unit/test_cli_commands.py loads each command by itself,
and mypy sees the rest.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import gc
import importlib
import json
import os
import pathlib
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))
DESCRIPTORS = 5


class Server:
    """Its client's side, for one process."""

    def __init__(self) -> None:
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-IS", __file__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=[theirs.fileno()],
            )  # fmt: skip

    def close(self) -> None:
        self.socket.close()
        self.process.wait()

    def start(self, request: int, stdin: int, stdout: int, stderr: int, status: int) -> None:
        descriptors = array.array("i", [request, stdin, stdout, stderr, status])
        self.socket.sendmsg([b"."], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])


_lock = threading.Lock()
_server: Server | None = None


def _get_server() -> Server:
    global _server
    with _lock:
        if _server is None:
            _server = Server()
            atexit.register(_server.close)
    return _server


class Process:
    """One that runs `program`, a file of this directory, with these words; its standard streams are given."""

    def __init__(
        self, program: str, words: list[str], environment: dict[str, str], stdin: int, stdout: int, stderr: int
    ) -> None:
        request = os.memfd_create("request")
        self.said, status = os.pipe()
        try:
            text = {"program": program, "words": words, "environment": environment, "directory": os.getcwd()}
            os.write(request, json.dumps(text).encode())
            _get_server().start(request, stdin, stdout, stderr, status)
        finally:
            os.close(request)
            os.close(status)
        self._text = b""

    def read(self) -> bool:
        """Take what `said`, which is ready, has; whether it was the last."""
        piece = os.read(self.said, 100)
        self._text += piece
        return not piece

    def wait(self, seconds: float) -> int:
        """Its exit status. Raises subprocess.TimeoutExpired."""
        deadline = time.monotonic() + seconds
        while True:
            ready, _, _ = select.select([self.said], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise subprocess.TimeoutExpired("warm", seconds)
            if self.read():
                return self.status

    @property
    def pid(self) -> int:
        return int(self._text.split()[0])

    @property
    def status(self) -> int:
        """As in subprocess, once it has ended."""
        return int(self._text.split()[1])

    def close(self) -> None:
        """Kill it, if it has not ended."""
        if not self._text:
            self.read()
        if len(self._text.split()) == 1:
            os.kill(self.pid, signal.SIGKILL)
        os.close(self.said)


def run(words: list[str], input: bytes, environment: dict[str, str], seconds: float) -> tuple[int, bytes, bytes]:
    """Exit status, stdout and stderr of a command line. Raises subprocess.TimeoutExpired."""
    stdin, feed = os.pipe()
    (out, stdout), (err, stderr) = os.pipe(), os.pipe()
    process = Process("command.py", words, environment, stdin, stdout, stderr)
    for descriptor in (stdin, stdout, stderr):
        os.close(descriptor)
    got = {out: bytearray(), err: bytearray()}
    deadline = time.monotonic() + seconds
    os.set_blocking(feed, False)
    rest = memoryview(input)
    opened = {feed: select.POLLOUT, out: select.POLLIN, err: select.POLLIN}
    poll = select.poll()
    for descriptor, event in opened.items():
        poll.register(descriptor, event)
    try:
        while opened:
            events = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
            if not events:
                raise subprocess.TimeoutExpired(words, seconds, bytes(got[out]), bytes(got[err]))
            for descriptor, _ in events:
                if descriptor == feed:
                    rest = rest[_write(feed, rest) :]
                    done = not rest
                else:
                    piece = os.read(descriptor, 1 << 20)
                    got[descriptor] += piece
                    done = not piece
                if done:
                    poll.unregister(descriptor)
                    del opened[descriptor]
                    os.close(descriptor)
        return process.wait(deadline - time.monotonic()), bytes(got[out]), bytes(got[err])
    finally:
        for descriptor in opened:
            os.close(descriptor)
        process.close()


def completed(
    words: list[str], input: str | bytes | None, environment: dict[str, str], seconds: float, text: bool
) -> subprocess.CompletedProcess:
    """The same as subprocess.run has it."""
    data = input.encode() if isinstance(input, str) else input or b""
    status, stdout, stderr = run(words, data, environment, seconds)
    if text:
        return subprocess.CompletedProcess(words, status, _text(stdout), _text(stderr))
    return subprocess.CompletedProcess(words, status, stdout, stderr)


def call(program: str, words: list[str], stdout: int, stderr: int, seconds: float) -> int:
    """Run it with this process's environment and an empty stdin; its exit status. Raises subprocess.TimeoutExpired."""
    with open(os.devnull) as empty:
        process = Process(program, words, dict(os.environ), empty.fileno(), stdout, stderr)
    try:
        return process.wait(seconds)
    finally:
        process.close()


def _text(data: bytes) -> str:
    return data.decode().replace("\r\n", "\n").replace("\r", "\n")


def _write(descriptor: int, data: memoryview) -> int:
    try:
        return os.write(descriptor, data)
    except BrokenPipeError:
        return len(data)


def serve(requests: socket.socket) -> None:
    poll = select.poll()
    poll.register(requests, select.POLLIN)
    running: dict[int, tuple[int, int]] = {}  # its pidfd -> process, pipe
    while True:
        for ready, _ in poll.poll():
            if ready in running:
                poll.unregister(ready)
                os.close(ready)
                pid, pipe = running.pop(ready)
                _tell(pipe, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                os.close(pipe)
                continue
            message, descriptors, _, _ = socket.recv_fds(requests, 1, DESCRIPTORS)
            if not message:
                return
            wanted = json.loads(pathlib.Path(f"/proc/self/fd/{descriptors[0]}").read_bytes())
            main = _load(wanted["program"], wanted["words"])
            pid = os.fork()
            if pid == 0:
                try:
                    _become(wanted, *descriptors[1:-1])
                    main()
                finally:
                    os._exit(1)
            for descriptor in descriptors[:-1]:
                os.close(descriptor)
            _tell(descriptors[-1], pid)
            pidfd = os.pidfd_open(pid)
            running[pidfd] = pid, descriptors[-1]
            poll.register(pidfd, select.POLLIN)


def _tell(pipe: int, number: int) -> None:
    try:
        os.write(pipe, b"%d\n" % number)
    except BrokenPipeError:
        # Of one that has been given up.
        pass


_loaded: set[str] = set()


def _load(program: str, words: list[str]) -> Callable[[], None]:
    """A program's entry. The modules of its commands are loaded when they are asked for: a small process forks fast."""
    module = importlib.import_module(program.removesuffix(".py"))
    wanted = [program]
    if program == "command.py":
        from pycontainer.cli import commands
        from pycontainer.errors import PycontainerError

        with contextlib.suppress(PycontainerError):
            found = commands.find(words)
            wanted += [f"pycontainer.cli.{found[0].handler.partition(':')[0]}"] if found else []
    else:
        wanted += [f"pycontainer.runtime.{name}" for name in ("join", "launch", "process_relay", "program", "state")]
    new = set(wanted[1:]) - _loaded
    for name in new:
        importlib.import_module(name)
    if not _loaded.issuperset(wanted):
        _loaded.update(wanted)
        gc.collect()
        gc.freeze()
    main: Callable[[], None] = module.main
    return main


def _become(wanted: dict[str, Any], stdin: int, stdout: int, stderr: int) -> None:
    for number, descriptor in enumerate((stdin, stdout, stderr)):
        os.dup2(descriptor, number)
    os.closerange(3, 1 << 20)
    os.chdir(wanted["directory"])
    os.environ.clear()
    os.environ.update(wanted["environment"])
    sys.argv[:] = [f"{HERE}/{wanted['program']}", *wanted["words"]]
    sys.orig_argv[:] = [sys.executable, "-IS", *sys.argv]


if __name__ == "__main__":
    sys.path.append(HERE)
    gc.disable()
    serve(socket.socket(fileno=int(sys.argv[1])))
