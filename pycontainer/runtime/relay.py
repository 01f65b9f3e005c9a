"""Between the caller's terminal or pipes and a program in the foreground: bytes, signals, window size, exit status.

One poll(2) loop. Each direction is one `_Pipe` with a bounded buffer, so that a slow reader slows its writer and
nothing else, and memory stays bounded. How signals and the window's size reach the program, and how its end is
learnt, is up to the subclass: process_relay.py for a child of this process.
"""

from __future__ import annotations

import errno
import gc
import os
import select

from pycontainer.kernel import signals, terminal

_CHUNK = 1 << 16

# Not forwarded: they concern this process, or cannot be caught, or come from its own faults.
_OURS = {"CHLD", "CLD", "KILL", "STOP", "TSTP", "TTIN", "TTOU", "CONT", "PIPE", "URG", "WINCH"} | {
    "SEGV", "BUS", "FPE", "ILL", "ABRT", "IOT", "TRAP", "SYS", "STKFLT",
}  # fmt: skip
_FORWARDED = {number for name, number in signals.NUMBERS.items() if name[3:] not in _OURS} | {*range(34, signals.NSIG)}
# What ends this process, once there is no program to pass it on to.
_ENDING = (signals.SIGHUP, signals.SIGINT, signals.SIGQUIT, signals.SIGTERM)
_REPORTED = [*_FORWARDED, signals.SIGWINCH, signals.SIGCONT]


class _Pipe:
    """Copies from one descriptor to another, as far as poll says that they are ready.

    is_input  from the caller to the program: the target is ours to close, and otherwise the source
    """

    __slots__ = ("buffer", "is_input", "source", "target")

    def __init__(self, source: int, target: int, *, is_input: bool) -> None:
        self.source = source
        self.target = target
        self.is_input = is_input
        self.buffer = b""

    def discard(self) -> None:
        """What is read from now on goes nowhere."""
        self.target = -1
        self.buffer = b""

    def finish(self) -> None:
        """No more can be copied: the target, where it is ours, learns of it by end of file."""
        if self.is_input and self.target >= 0:
            os.close(self.target)
        self.source = self.target = -1
        self.buffer = b""


class Relay:
    """Serves a program in the foreground until it has ended and all of its output is written.

    end  descriptor that is ready when there may be news of its end: see `notice_end`
    """

    def __init__(self, end: int) -> None:
        self._end = end
        self.status: int | None = None
        self.is_over = False
        self._pipes: list[_Pipe] = []
        self._owned: list[int] = []
        self._closed = False
        self._interrupted = 0
        self._raw: terminal.RawMode | None = None
        # Signals become bytes in a pipe, so that poll sees them together with everything else.
        self._wake, self._wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._handlers = signals.report_to(self._wake_writer, _REPORTED)

    def add_output(self, source: int, target: int) -> None:
        """Copy what the container writes (`source`, closed by the relay) to `target` of the caller's."""
        self._owned.append(source)
        self._pipes.append(_Pipe(source, target, is_input=False))

    def add_input(self, source: int, target: int) -> None:
        """Copy the caller's input to the container (`target`, closed by the relay at the end of the input)."""
        self._pipes.append(_Pipe(source, target, is_input=True))

    def notice_end(self) -> None:
        """Called when `end` is ready; sets `status` when the program has ended."""
        raise NotImplementedError

    def deliver(self, number: int) -> None:
        """Pass a signal on to the program."""
        raise NotImplementedError

    def resize(self) -> None:
        """The terminal's window may have another size: tell the program."""

    def take_input(self, typed: bytes) -> bytes:
        """Called with what was read for the program; what is to be passed on."""
        return typed

    def lose_output(self, target: int) -> bool:
        """Nobody reads `target` any more; whether the program's output is to be read on, and discarded."""
        return False

    def make_raw(self) -> None:
        """Put the terminal at descriptor 0 into raw mode until the relay is closed, where it is one."""
        if os.isatty(0):
            self._raw = terminal.RawMode(0)
            self._raw.apply()

    def run(self) -> int:
        """The program's exit status, or 128 + n when signal n ended it, or us while we still waited for our reader."""
        gc.enable()
        while self.status is None and not self._interrupted:
            self._turn(None)
        # Its processes are gone, so that what they wrote is in the pipes by now; who else has them open is not awaited.
        while not self._interrupted and (any(pipe.buffer for pipe in self._outputs()) or self._turn(0)):
            if any(pipe.buffer for pipe in self._outputs()):
                self._turn(None)
        return 128 + self._interrupted if self.status is None or self._interrupted else self.status

    def close(self) -> None:
        """Give the terminal back as it was and close what the relay owns. May be called twice."""
        if self._closed:
            return
        self._closed = True
        if self._raw:
            self._raw.restore()
        signals.stop_reporting(self._handlers)
        for descriptor in self._owned:
            os.close(descriptor)
        for pipe in self._pipes:
            if pipe.is_input and pipe.target >= 0:
                os.close(pipe.target)
        self._owned, self._pipes = [], []
        os.close(self._wake)
        os.close(self._wake_writer)

    def _outputs(self) -> list[_Pipe]:
        return [pipe for pipe in self._pipes if pipe.source in self._owned or (pipe.buffer and not pipe.is_input)]

    def _turn(self, timeout: int | None) -> bool:
        """Wait for something to do, at most `timeout` milliseconds, and do it; whether there was anything."""
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        if self.status is None:
            poll.register(self._end, select.POLLIN)
        wanted: dict[int, int] = {}
        for pipe in self._pipes:
            if pipe.buffer:
                wanted[pipe.target] = wanted.get(pipe.target, 0) | select.POLLOUT
            elif pipe.source >= 0 and (self.status is None or pipe.source in self._owned):
                wanted[pipe.source] = wanted.get(pipe.source, 0) | select.POLLIN
        for descriptor, events in wanted.items():
            poll.register(descriptor, events)
        ready = dict(poll.poll(timeout))
        if self._wake in ready:
            self._handle_signals()
        for pipe in self._pipes:
            if pipe.buffer and pipe.target in ready:
                self._write(pipe)
            elif not pipe.buffer and pipe.source in ready:
                self._read(pipe)
        if self.status is None and self._end in ready:
            self.notice_end()
        return bool(ready)

    def _read(self, pipe: _Pipe) -> None:
        try:
            pipe.buffer = os.read(pipe.source, _CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            # EIO: the last process with the terminal open has gone. Any other: the source is as good as ended.
            if error.errno not in (errno.EIO, errno.EBADF, errno.ECONNRESET):
                raise
            pipe.buffer = b""
        if not pipe.buffer:
            pipe.finish()
        elif pipe.target < 0:
            pipe.buffer = b""
        else:
            if pipe.is_input:
                pipe.buffer = self.take_input(pipe.buffer)
            self._write(pipe)

    def _write(self, pipe: _Pipe) -> None:
        try:
            # The descriptor may be blocking, since it is the caller's: what poll allows is room for PIPE_BUF bytes.
            poll = select.poll()
            poll.register(pipe.target, select.POLLOUT)
            if not poll.poll(0):
                return
            pipe.buffer = pipe.buffer[os.write(pipe.target, pipe.buffer[:4096]) :]
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO, errno.EBADF, errno.ECONNRESET):
                _complain(f"write the container's output: {os.strerror(error.errno or 0).lower()}")
            if not pipe.is_input and self.lose_output(pipe.target):
                pipe.discard()
                return
            # The container learns of it as any writer does, by SIGPIPE, when its pipe is closed.
            if pipe.source in self._owned:
                self._owned.remove(pipe.source)
                os.close(pipe.source)
            pipe.finish()

    def _handle_signals(self) -> None:
        for number in os.read(self._wake, 4096):
            if number == signals.SIGWINCH:
                self.resize()
            elif number == signals.SIGCONT:
                if self._raw:
                    self._raw.apply()
                    self.resize()
            elif self.status is not None or self.is_over:
                # There is no program any more that it could be for: whoever reads the output may never do so.
                self._interrupted = self._interrupted or (number if number in _ENDING else 0)
            elif number in _FORWARDED:
                self.deliver(number)


def _complain(text: str) -> None:
    try:
        os.write(2, f"pycontainer: {text}\n".encode())
    except OSError:
        pass
