"""`--explain` in its styles, and the process that writes them.

client                        process that explains           whoever takes a step (kernel/operation.py)
fork                     ->   reads records                <- one record, and waits
passes the other end          writes, answers with a byte  -> takes the step
waits for its end        <-   end of file: nobody is left who could take one

So what is explained stands before what happens, and before what the program itself writes.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import struct
import sys
import termios
import tty
from typing import TYPE_CHECKING, Any, NoReturn

from pycontainer.errors import UsageError
from pycontainer.kernel.operation import wants_bold

if TYPE_CHECKING:
    from collections.abc import Callable

STYLES = ("steps", "step", "calls", "json")
_LARGEST = 1 << 20  # bytes of a record
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid: unix(7)
_WIDEST = 100  # columns


class Explainer:
    """What one command explains. A context: at its end all is written. As Silent in launch.py."""

    def __init__(self, style: str, path: str, *, interactive: bool, at_rest: bool = False) -> None:
        """Raises UsageError.

        path         of the file to write to; "" for standard error
        interactive  whether the program gets what is typed
        at_rest      whether nothing is started
        """
        if style == "script":
            raise UsageError("--explain", "script", "only `run` and `create` print one", f"one of {', '.join(STYLES)}")
        if style not in STYLES:
            raise UsageError(
                "--explain", repr(style), "no such style", f"one of {', '.join(STYLES)}; for `run` and `create` script"
            )
        if style == "step" and (interactive or not os.isatty(0)):
            why = "the program reads the keys" if interactive else "standard input is no terminal"
            raise UsageError(
                "--explain", "step", f"{why}, so there is none to wait for", "--explain=steps does not wait"
            )
        self._out = _open(path) if path else 2
        self._pid = 0
        bold = wants_bold(self._out)
        self.request = {"explained": True, "bold": bold, "records": style != "calls"}
        if style == "calls":
            self.passed = [self._out]
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Before the first record, which may be there before the process that reads it.
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._pid = os.fork()
        if self._pid == 0:
            theirs.close()
            _run(ours, self._out, style, bold=bold, at_rest=at_rest)
        ours.close()
        self._channel = theirs
        self.passed = [theirs.fileno()]

    def __enter__(self) -> Explainer:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pid:
            # Whoever still has it has nothing more to tell.
            self._channel.shutdown(socket.SHUT_RDWR)
            self._channel.close()
            os.waitpid(self._pid, 0)
        if self._out != 2:
            os.close(self._out)


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise UsageError("--explain-to", path, (error.strerror or "failed").lower()) from error


def _run(channel: socket.socket, out: int, style: str, *, bold: bool, at_rest: bool) -> NoReturn:
    """The process that explains. An interrupt is for the program; here it ends the waiting for keys."""
    status = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _serve(channel, out, style, bold=bold, at_rest=at_rest)
        status = 0
    except BrokenPipeError:
        pass
    except Exception:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def _serve(channel: socket.socket, out: int, style: str, *, bold: bool, at_rest: bool) -> None:
    from pycontainer.cli.lecture import Lecture

    width = min(shutil.get_terminal_size((80, 24)).columns, _WIDEST) if os.isatty(out) else 80
    # A terminal may be in raw mode by now, where a line feed does not return the carriage.
    end = "\r\n" if os.isatty(out) else "\n"

    def write(text: str) -> None:
        os.write(out, text.replace("\n", end).encode(errors="backslashreplace"))

    wait = _Keys(out)
    unfinished: dict[int, dict[str, Any]] = {}  # what a process has begun, which only json tells with its calls
    signal.signal(signal.SIGINT, lambda *_: wait.stop())
    lecture = Lecture(write, wait if style == "step" else lambda: None, width=width, bold=bold, at_rest=at_rest)
    while True:
        data, ancillary, _, _ = channel.recvmsg(_LARGEST, socket.CMSG_SPACE(_CREDENTIALS.size))
        if not data:
            break
        record: dict[str, Any] = json.loads(data)
        # Its pid here; in the container it is 1.
        record["pid"] = next((_CREDENTIALS.unpack(each[:12])[0] for _, _, each in ancillary), 0)
        if "flush" in record:
            lecture.flush()
        elif style == "json":
            _collect(record, unfinished, write)
        elif "calls" not in record:
            lecture.take(record)
        channel.send(b"\0")
    lecture.flush()
    for record in unfinished.values():
        write(f"{json.dumps({**record, 'calls': []})}\n")


def _collect(record: dict[str, Any], unfinished: dict[int, dict[str, Any]], write: Callable[[str], None]) -> None:
    """Write what a process has begun when it tells the system calls; what is no step at once."""
    if "step" in record:
        unfinished[record["pid"]] = record
        return
    if "calls" in record:
        record = {**unfinished.pop(record["pid"]), **record}
    write(f"{json.dumps(record)}\n")


class _Keys:
    """Waits for a key of the terminal that is standard input, until told to stop."""

    def __init__(self, out: int) -> None:
        self._out = out
        self._stopped = False

    def stop(self) -> None:
        self._stopped = True

    def __call__(self) -> None:
        if self._stopped:
            return
        before = termios.tcgetattr(0)
        try:
            # First, and without throwing away what was typed: a key may come as soon as it is asked for.
            tty.setcbreak(0, termios.TCSANOW)
            os.write(self._out, b"               (any key) ")
            os.read(0, 1)
        finally:
            termios.tcsetattr(0, termios.TCSADRAIN, before)
            os.write(self._out, b"\r\033[K")
