"""Operations: the steps that touch the kernel, each an object that can explain itself.

An operation holds its real arguments, and says why it is done and how a shell would do it. Its system calls need no
words: whoever makes them records them while they are made (record.py). `Journal.perform` is the only caller of
`execute()`: it prints when `--explain` asks for it, and turns an OSError into a StepFailed that names step and path.
"""

from __future__ import annotations

import os

from pycontainer import json_text
from pycontainer.errors import StepFailed
from pycontainer.kernel import record
from pycontainer.kernel.record import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

WIDTH = 120  # columns; a longer line is folded

LEGEND = """\
# System calls as strace(1) prints them, without most of those that only open, close or look. 5<path> is the descriptor
# 5, of that path. Below: why, and after $ how a shell would do it.
"""

GROUPS = ("image", "cgroup", "namespaces", "mounts", "network", "privileges", "exec", "files")


class Operation:
    """One step. Subclasses set `group` (one of GROUPS) and `step`, and give `reason` and `path` a value.

    step    what is being done, as an error message begins: "mount proc"
    path    the file, directory or object it is done to; may be empty
    reason  one line, why a container needs it, begins lower case, no full stop
    hint    what a user can do when it fails; may be empty
    absent  there is nothing to do it to on this host; only asked where it is explained
    bare    an OSError goes on as it is, because it names the file, and who performs this may know what to do
    """

    group = ""
    step = ""
    path = ""
    reason = ""
    hint = ""
    absent = False
    bare = False

    def shell(self) -> str:
        """A shell command that would do the same, several as lines; "…" stands for what is not known yet."""
        return ""

    def execute(self) -> object:
        """Make the system calls. Raises OSError."""
        raise NotImplementedError


def wants_bold(descriptor: int) -> bool:
    """Whether what is written there may be bold: a terminal that can show it, whose user has not set NO_COLOR."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") in (None, "", "dumb")
    return not plain and os.isatty(descriptor)


class Journal:
    """Performs operations, and explains them on the descriptor `out` when there is one.

    side  whose steps these are: "host", or "container" in its first process
    """

    def __init__(self, out: int | None = None, *, bold: bool = False, records: bool = False) -> None:
        """bold: the headings stand out, by the escape sequence that `wants_bold` says is understood.

        records: `out` is a SOCK_SEQPACKET socket, to which a JSON object goes for each operation; who reads it answers
        each with a byte, and the operation waits for that. Otherwise system calls as text.
        """
        self.out = out
        self.side = "host"
        self._bold = bold
        self._records = records
        self._heading = ""
        self._is_terminal = out is not None and os.isatty(out)
        self._names: dict[str, str] = {}

    def close(self) -> None:
        """Explain no more, and close the descriptor. May be called twice."""
        if self.out is not None:
            os.close(self.out)
            self.out = None

    def define(self, name: str, value: str) -> None:
        """Print `value` as `$name` from here on, because an id of 64 digits in every line hides all the rest."""
        if self.out is None:
            return
        self._names[name] = value
        if self._records:
            self._send({"define": name, "value": value}, self.out)
        else:
            self._write([f"  {name}={value}"], self.out)

    def flush(self) -> None:
        """Have the step explained that is at its end, before somebody says what came of it, or what was wrong."""
        if self.out is not None and self._records:
            self._send({"flush": True}, self.out)

    def perform(self, operation: Operation) -> Any:
        """Explain and execute `operation`; its result. Raises StepFailed."""
        try:
            return operation.execute() if self.out is None else self._explain(operation, self.out)
        except OSError as error:
            if operation.bare:
                raise
            path = operation.path or str(error.filename or "")
            cause = error.strerror or (os.strerror(error.errno) if error.errno else str(error))
            cause = cause[:1].lower() + cause[1:]
            raise StepFailed(operation.step, path, error.errno or 0, hint=operation.hint, cause=cause) from error

    def _explain(self, operation: Operation, out: int) -> Any:
        """What it is before it is done, its system calls when they have been made."""
        told = _told(operation, self.side)
        if self._records:
            self._send(told, out)
            record.start(lambda calls: self._send({"calls": calls}, out))
        else:
            record.start(lambda calls: self._print(told, calls, out))
        try:
            return operation.execute()
        finally:
            record.stop()

    def _send(self, record: dict[str, Any], out: int) -> None:
        try:
            os.write(out, json_text.dumps(record).encode())
            if os.read(out, 1):
                return
        except OSError:
            pass
        # Nobody reads it any more.
        self.out = None

    def _print(self, told: dict[str, Any], calls: list[str], out: int) -> None:
        lines = [] if self._heading else LEGEND.splitlines()
        # In the container it is 1, because that is what the process calls itself there.
        heading = f"{told['group']} ({told['side']}, pid {os.getpid()})"
        if heading != self._heading:
            self._heading = heading
            lines.append(f"\033[1m{heading}\033[0m" if self._bold else heading)
        for call in calls:
            lines.extend(_fold(self._abbreviate(f"  {call}"), (", ", "|"), '"', "", 8))
        lines.append(f"      # {told['reason']}")
        for command in told["shell"]:
            lines.extend(_fold(self._abbreviate(f"      $ {command}"), (" ",), "'", "\\", 10))
        self._write(lines, out)

    def _abbreviate(self, line: str) -> str:
        for name, value in self._names.items():
            line = line.replace(value, f"${name}")
        return line

    def _write(self, lines: list[str], out: int) -> None:
        # A terminal may be in raw mode by now, where a line feed does not return the carriage.
        end = "\r\n" if self._is_terminal else "\n"
        try:
            # One write, because the container's child writes to the same descriptor.
            os.write(out, (end.join(lines) + end).encode(errors="backslashreplace"))
        except OSError:
            # Nobody can read it, or the disk is full: the container does not depend on being explained.
            self.out = None


def _told(operation: Operation, side: str) -> dict[str, Any]:
    absent = operation.absent
    return {
        "side": side,
        "operation": type(operation).__name__,
        "group": operation.group,
        "step": operation.step,
        "path": operation.path,
        "reason": "not there on this host: nothing to do" if absent else operation.reason,
        "absent": absent,
        "shell": [] if absent else operation.shell().splitlines(),
    }


def word(text: str) -> str:
    """`text` as one word of a shell's; not by shlex, whose import is one more after the root has changed."""
    if text and all(c.isalnum() or c in "@%+=:,./-_" for c in text):
        return text
    return "$'" + quoted(text)[1:-1].replace('\\"', '"').replace("'", "\\'") + "'"


def _fold(line: str, separators: tuple[str, ...], quote: str, end: str, indent: int) -> list[str]:
    """`line` in pieces of at most WIDTH columns, cut behind a separator, as far as there is one.

    Not inside quotation marks, and not between an option -o and its value.
    """
    pieces = []
    while len(line) > WIDTH:
        cut = 0
        for separator in separators:
            cuts = [
                position + len(separator)
                for position in range(indent + 1, len(line) - len(separator))
                if line.startswith(separator, position)
                and line.count(quote, 0, position) % 2 == 0
                and not line.endswith(" -o", 0, position)
            ]
            fitting = [position for position in cuts if position <= WIDTH - len(end)]
            cut = max(fitting, default=0) or cut or min(cuts, default=0)
            if fitting:
                break
        if not cut:
            break
        pieces.append(line[:cut] + end if end else line[:cut].rstrip())
        line = " " * indent + line[cut:]
    return [*pieces, line]
