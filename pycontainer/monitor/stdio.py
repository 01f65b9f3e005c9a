"""A container's standard input and output: pipes or a terminal, the log, and the client that runs it in the foreground.

    program ──▶ pipe or terminal ──▶ log
                                └──▶ pipe of the client, if there is one
    program ◀── pipe or terminal ◀── pipes of clients

What the program writes goes to the log first. A client that runs the container in the foreground gets every byte too,
and like any reader of a pipe it may be slow, and then the program waits; a client that has gone is forgotten. Whoever
looks on (`attach`, `logs -f`) reads the log, and can hold up nobody.
"""

from __future__ import annotations

import os

from pycontainer.kernel import terminal
from pycontainer.kernel.event_loop import READ, WRITE, EventLoop
from pycontainer.runtime.deliver import is_handled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_CHUNK = 1 << 16
_LEFT = 1 << 20  # bytes that a pipe can hold at most when its writer has gone: pipe(7)


class Output:
    """One stream out of the container. `target` is the foreground client's pipe, -1 without one."""

    def __init__(self, loop: EventLoop, source: int, stream: str, log: Callable[[str, bytes], None] | None) -> None:
        self._loop = loop
        self._source = source
        self._stream = stream
        self._log = log
        self._target = -1
        self._pending = b""
        os.set_blocking(source, False)
        loop.watch(source, READ, self._read)

    @property
    def is_flushed(self) -> bool:
        """Whether the client has been given all that was read."""
        return not self._pending

    def connect(self, target: int) -> None:
        """From now on a copy of it goes to the pipe `target`, which is closed in the end."""
        os.set_blocking(target, False)
        self._target = target

    def _read(self) -> None:
        try:
            data = os.read(self._source, _CHUNK)
        except BlockingIOError:
            return
        except OSError:
            # EIO: the last process with the terminal open has gone.
            data = b""
        if not data:
            self.close_source()
            return
        self._take(data)
        if self._pending:
            self._loop.forget(self._source)

    def _take(self, data: bytes) -> None:
        if self._log is not None:
            self._log(self._stream, data)
        if self._target >= 0:
            self._pending += data
            self._write()
            if self._pending:
                self._loop.watch(self._target, WRITE, self._write_again)

    def _write(self) -> None:
        try:
            while self._pending:
                self._pending = self._pending[os.write(self._target, self._pending) :]
        except BlockingIOError:
            pass
        except OSError:
            # The client has gone. If it only wants no more, it says so: `close_source`.
            self.close_target()

    def _write_again(self) -> None:
        self._write()
        if not self._pending:
            if self._target >= 0:
                self._loop.forget(self._target)
            if self._source >= 0:
                self._loop.watch(self._source, READ, self._read)

    def close_source(self) -> None:
        """Read no more: a program that writes on gets SIGPIPE."""
        if self._source >= 0:
            self._loop.forget(self._source)
            os.close(self._source)
            self._source = -1

    def close_target(self) -> None:
        """The client gets no more."""
        self._pending = b""
        if self._target >= 0:
            self._loop.forget(self._target)
            os.close(self._target)
            self._target = -1

    def drain(self) -> None:
        """Read what is left after the program's end, without waiting for others who may have the pipe open."""
        left = _LEFT
        while self._source >= 0 and left > 0:
            try:
                data = os.read(self._source, _CHUNK)
            except OSError:
                break
            if not data:
                break
            left -= len(data)
            self._take(data)
        self.close_source()


class Input:
    """What clients type, into the program's standard input.

    once  the end of a client's input is the end of the program's
    """

    def __init__(self, loop: EventLoop, target: int, *, once: bool) -> None:
        self._loop = loop
        self._target = target
        self._once = once
        self._sources: list[int] = []
        self._pending = b""
        self.notice: Callable[[bytes], None] | None = None
        os.set_blocking(target, False)

    def connect(self, source: int) -> None:
        """Pass on what comes from the pipe `source`, which is closed in the end."""
        if self._target < 0:
            os.close(source)
            return
        os.set_blocking(source, False)
        self._sources.append(source)
        if not self._pending:
            self._watch(source)

    def _watch(self, source: int) -> None:
        self._loop.watch(source, READ, lambda: self._read(source))

    def _read(self, source: int) -> None:
        try:
            data = os.read(source, _CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._loop.forget(source)
            self._sources.remove(source)
            os.close(source)
            if self._once:
                self.close()
            return
        if self.notice is not None:
            self.notice(data)
        self._pending = data
        self._write()

    def _write(self) -> None:
        try:
            while self._pending:
                self._pending = self._pending[os.write(self._target, self._pending) :]
        except BlockingIOError:
            for source in self._sources:
                self._loop.forget(source)
            self._loop.watch(self._target, WRITE, self._write_again)
        except OSError:
            # The program has closed its standard input, or ended.
            self.close()

    def _write_again(self) -> None:
        self._loop.forget(self._target)
        self._write()
        if not self._pending:
            for source in self._sources:
                self._watch(source)

    def close(self) -> None:
        """End the program's input; what clients send after that is not read."""
        for source in self._sources:
            self._loop.forget(source)
            os.close(source)
        self._sources, self._pending = [], b""
        if self._target >= 0:
            self._loop.forget(self._target)
            os.close(self._target)
            self._target = -1


class Stdio:
    """The input and output of one run of a container.

    ends      ours of ends.py, closed at last
    terminal  whether that is the master of a terminal
    once      the end of a client's input is the end of the program's
    log       takes (stream, data); None keeps no log
    """

    def __init__(
        self,
        loop: EventLoop,
        pidfd: int,
        ends: list[int],
        *,
        terminal: bool,
        interactive: bool,
        once: bool,
        log: Callable[[str, bytes], None] | None,
    ) -> None:
        self._pidfd = pidfd
        self._input: Input | None = None
        self._master = -1
        if terminal:
            (master,) = ends
            self._master = os.dup(master)
            self._outputs = [Output(loop, master, "stdout", log)]
            if interactive:
                self._input = Input(loop, os.dup(master), once=False)
                self._input.notice = self._interrupt
        else:
            *stdin, stdout, stderr = ends
            self._outputs = [Output(loop, stdout, "stdout", log), Output(loop, stderr, "stderr", log)]
            if stdin:
                self._input = Input(loop, stdin[0], once=once)

    def _interrupt(self, typed: bytes) -> None:
        """See to it that Ctrl-C ends a first process without a handler too, to which the kernel sends nothing."""
        for number, character in terminal.signal_characters(self._master):
            if character in typed and not is_handled(self._pidfd, number):
                self.on_interrupt(number)

    def on_interrupt(self, number: int) -> None:
        """Called when a client typed what should end a first process without a handler; the monitor replaces it."""

    def connect(self, stdin: int, stdout: int, stderr: int) -> None:
        """Serve a client that runs the container in the foreground: its pipes, -1 for one that it has not."""
        if stdin >= 0:
            self.connect_input(stdin)
        for number, target in enumerate((stdout, stderr)):
            if target >= 0 and number < len(self._outputs):
                self._outputs[number].connect(target)
            elif target >= 0:
                os.close(target)

    def connect_input(self, source: int) -> None:
        """Pass on what a client types."""
        if self._input is None:
            os.close(source)
        else:
            self._input.connect(source)

    def close_output(self, number: int) -> None:
        """The foreground client wants no more of stream 1 or 2: the program gets SIGPIPE if it writes on.

        A terminal's output is discarded instead, because nobody expects a terminal to be closed for writing.
        """
        if 1 <= number <= len(self._outputs):
            if self._master >= 0:
                self._outputs[number - 1].close_target()
            else:
                self._outputs[number - 1].close_source()

    def resize(self, rows: int, columns: int) -> None:
        """Give the terminal a size. Raises OSError."""
        if self._master >= 0:
            terminal.set_window_size(self._master, rows, columns)

    def drain(self) -> None:
        """The program has ended: read what it has left in the pipes."""
        for output in self._outputs:
            output.drain()
        if self._input is not None:
            self._input.close()

    @property
    def is_flushed(self) -> bool:
        """Whether the foreground client has got everything, or has gone."""
        return all(output.is_flushed for output in self._outputs)

    def close(self) -> None:
        """Close whatever is open. May be called twice."""
        for output in self._outputs:
            output.close_source()
            output.close_target()
        if self._input is not None:
            self._input.close()
        if self._master >= 0:
            os.close(self._master)
        self._outputs, self._input, self._master = [], None, -1
