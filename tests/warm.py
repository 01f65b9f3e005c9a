"""Command lines run by an interpreter that has its modules already, because most of a short command's time is their
import and its start, and the tests run some thousands: what `Pycontainer()` of conftest.py calls.

    warm.py DESCRIPTOR   serve the SOCK_SEQPACKET socket until its other end is closed

A request has the descriptors of a file with {"words", "environment", "directory"}, of stdin, stdout and stderr, and of
a pipe, which gets two lines: the process's id, and its exit status as in subprocess.

A process so made has the server's limits, namespaces and locale: a test to which these matter starts conftest's COMMAND
itself. And it may have modules that it forgot to import: tests/unit/test_cli_commands.py loads each command by itself,
and mypy sees the rest.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import gc
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


def run(words: list[str], input: bytes, environment: dict[str, str], seconds: float) -> tuple[int, bytes, bytes]:
    """Exit status, stdout and stderr of a command line. Raises subprocess.TimeoutExpired, and has killed it then."""
    request = os.memfd_create("request")
    text = json.dumps({"words": words, "environment": environment, "directory": os.getcwd()})
    os.write(request, text.encode())
    stdin, feed = os.pipe()
    (out, stdout), (err, stderr), (said, status) = os.pipe(), os.pipe(), os.pipe()
    _get_server().start(request, stdin, stdout, stderr, status)
    for descriptor in (request, stdin, stdout, stderr, status):
        os.close(descriptor)
    got = {out: bytearray(), err: bytearray(), said: bytearray()}
    deadline = time.monotonic() + seconds
    poll = select.poll()
    for descriptor in got:
        poll.register(descriptor, select.POLLIN)
    os.set_blocking(feed, False)
    poll.register(feed, select.POLLOUT)
    rest = memoryview(input)
    opened = {feed, *got}
    try:
        while opened:
            events = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
            if not events:
                os.kill(int(got[said]), signal.SIGKILL)
                raise subprocess.TimeoutExpired(words, seconds, bytes(got[out]), bytes(got[err]))
            for descriptor, event in events:
                if descriptor == feed:
                    rest = rest[_write(feed, rest) :] if not event & select.POLLERR else rest[:0]
                    done = not rest
                else:
                    piece = os.read(descriptor, 1 << 20)
                    got[descriptor] += piece
                    done = not piece
                if done:
                    poll.unregister(descriptor)
                    opened.remove(descriptor)
                    os.close(descriptor)
    finally:
        for descriptor in opened:
            os.close(descriptor)
    return int(got[said].split()[1]), bytes(got[out]), bytes(got[err])


def completed(
    words: list[str], input: str | bytes | None, environment: dict[str, str], seconds: float, text: bool
) -> subprocess.CompletedProcess:
    """The same as subprocess.run has it."""
    data = input.encode() if isinstance(input, str) else input or b""
    status, stdout, stderr = run(words, data, environment, seconds)
    if text:
        return subprocess.CompletedProcess(words, status, _text(stdout), _text(stderr))
    return subprocess.CompletedProcess(words, status, stdout, stderr)


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
            _load(wanted["words"])
            pid = os.fork()
            if pid == 0:
                try:
                    _become(wanted, *descriptors[1:-1])
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


def _load(words: list[str]) -> None:
    """The modules of this command, once and not in each process; no others, because a small process forks fast."""
    with contextlib.suppress(PycontainerError):
        found = commands.find(words)
        if found and found[0] not in _loaded:
            _loaded.add(found[0])
            found[0].load()
            gc.collect()
            gc.freeze()


def _become(wanted: dict[str, Any], stdin: int, stdout: int, stderr: int) -> None:
    for number, descriptor in enumerate((stdin, stdout, stderr)):
        os.dup2(descriptor, number)
    os.closerange(3, 1 << 20)
    os.chdir(wanted["directory"])
    os.environ.clear()
    os.environ.update(wanted["environment"])
    sys.argv[:] = [f"{HERE}/command.py", *wanted["words"]]
    sys.orig_argv[:] = [sys.executable, "-IS", *sys.argv]
    main()


if __name__ == "__main__":
    sys.path.append(HERE)
    from command import main

    from pycontainer.cli import commands
    from pycontainer.errors import PycontainerError

    _loaded: set[commands.Command] = set()
    gc.disable()
    serve(socket.socket(fileno=int(sys.argv[1])))
