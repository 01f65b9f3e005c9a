"""Between the caller's terminal or pipes and a container in the foreground: bytes, signals, window size, exit status.

One poll(2) loop. Each direction is one `_Pipe` with a bounded buffer, so that a slow reader slows its writer and
nothing else, and memory stays bounded.
"""

from __future__ import annotations

import _socket
import errno
import gc
import os
import select

from pycontainer.kernel import descriptors, signals, syscalls, terminal

_CHUNK = 1 << 16

# Not forwarded: they concern this process, or cannot be caught, or come from its own faults.
_OURS = {"CHLD", "CLD", "KILL", "STOP", "TSTP", "TTIN", "TTOU", "CONT", "PIPE", "URG", "WINCH"} | {
    "SEGV", "BUS", "FPE", "ILL", "ABRT", "IOT", "TRAP", "SYS", "STKFLT",
}  # fmt: skip
_FORWARDED = {number for name, number in signals.NUMBERS.items() if name[3:] not in _OURS} | {*range(34, signals.NSIG)}
_REPORTED = [*_FORWARDED, signals.SIGWINCH, signals.SIGCONT]

# What these do by default is nothing or a stop, not an end: signal(7).
_HARMLESS = {signals.NUMBERS[f"SIG{name}"] for name in ("CHLD", "CONT", "URG", "WINCH", "TSTP", "TTIN", "TTOU", "STOP")}


class _Pipe:
    """Copies from one descriptor to another, as far as poll says that they are ready."""

    __slots__ = ("buffer", "close_target", "source", "target")

    def __init__(self, source: int, target: int, close_target: bool) -> None:
        self.source = source
        self.target = target
        self.close_target = close_target
        self.buffer = b""

    def discard(self) -> None:
        """What is read from now on goes nowhere."""
        self.target = -1
        self.buffer = b""

    def finish(self) -> None:
        """No more can be copied: the target, where it is ours, learns of it by end of file."""
        if self.close_target and self.target >= 0:
            os.close(self.target)
        self.source = self.target = -1
        self.buffer = b""


class Relay:
    """Serves a container in the foreground until it has ended and all of its output is written."""

    def __init__(self, pidfd: int) -> None:
        self.pidfd = pidfd
        self.status: int | None = None
        self._pipes: list[_Pipe] = []
        self._owned: list[int] = []
        self._closed = False
        self._master = -1
        self._raw: terminal.RawMode | None = None
        self._fatal = 0
        # Signals become bytes in a pipe, so that poll sees them together with everything else.
        self._wake, self._wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._handlers = signals.report_to(self._wake_writer, _REPORTED)

    def add_output(self, source: int, target: int) -> None:
        """Copy what the container writes (`source`, closed by the relay) to `target` of the caller's."""
        self._owned.append(source)
        self._pipes.append(_Pipe(source, target, close_target=False))

    def add_input(self, source: int, target: int) -> None:
        """Copy the caller's input to the container (`target`, closed by the relay at the end of the input)."""
        self._pipes.append(_Pipe(source, target, close_target=True))

    def adopt_terminal(self, console: _socket.socket, *, interactive: bool = True) -> None:
        """Take the terminal's master that the container sent, if it sent one, and join it to descriptors 0 and 1."""
        master = descriptors.receive_descriptor(console)
        if master is None:
            return
        self._master = master
        self._owned.append(self._master)
        self._pipes.append(_Pipe(self._master, 1, close_target=False))
        if interactive:
            self._pipes.append(_Pipe(0, self._master, close_target=False))
        if interactive and os.isatty(0):
            self._raw = terminal.RawMode(0)
            self._raw.apply()
        self._resize()

    def run(self) -> int:
        """The container's exit status: the program's own, or 128 + n when signal n ended it."""
        gc.enable()
        while self.status is None:
            self._turn(None)
        # Its processes are gone, so that what they wrote is in the pipes by now; who else has them open is not awaited.
        while any(pipe.buffer for pipe in self._outputs()) or self._turn(0):
            if any(pipe.buffer for pipe in self._outputs()):
                self._turn(None)
        return self.status

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
            if pipe.close_target and pipe.target >= 0:
                os.close(pipe.target)
        self._owned, self._pipes = [], []
        os.close(self._wake)
        os.close(self._wake_writer)

    def _outputs(self) -> list[_Pipe]:
        return [pipe for pipe in self._pipes if pipe.source in self._owned or (pipe.buffer and not pipe.close_target)]

    def _turn(self, timeout: int | None) -> bool:
        """Wait for something to do, at most `timeout` milliseconds, and do it; whether there was anything."""
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        if self.status is None:
            poll.register(self.pidfd, select.POLLIN)
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
        if self.pidfd in ready:
            self._reap()
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
            if pipe.target == self._master:
                self._interrupt(pipe.buffer)
            self._write(pipe)

    def _interrupt(self, typed: bytes) -> None:
        """See to it that Ctrl-C ends a first process without a handler, to which the kernel sends nothing."""
        for number, character in terminal.signal_characters(self._master):
            if character in typed and not self._is_handled(number):
                self.deliver(number)

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
            if pipe.source == self._master:
                # Read on, because a program would wait for ever to write to a terminal that nobody reads.
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
                self._resize()
            elif number == signals.SIGCONT:
                if self._raw:
                    self._raw.apply()
                    self._resize()
            elif number in _FORWARDED:
                self.deliver(number)

    def deliver(self, number: int) -> None:
        """Send a signal to the container's first process, and see to it that it has its effect.

        The kernel drops a signal for PID 1 of a namespace that has no handler for it: pid_namespaces(7). Such a
        program would be ended by it anywhere else, so it is ended here too, and its status is 128 + n.
        """
        if not self._is_handled(number):
            self._fatal = number
            number = signals.SIGKILL
        signals.send(self.pidfd, number)

    def _is_handled(self, number: int) -> bool:
        if number in _HARMLESS or number == signals.SIGKILL:
            return True
        try:
            with open(f"/proc/self/fdinfo/{self.pidfd}") as file:
                pid = next(int(line[4:]) for line in file if line.startswith("Pid:"))
            with open(f"/proc/{pid}/status") as file:
                masks = [int(line[8:], 16) for line in file if line.startswith(("SigBlk", "SigIgn", "SigCgt"))]
        except (OSError, StopIteration, ValueError):
            return True
        try:
            with open(f"/proc/{pid}/syscall") as file:
                system_call = file.read().split()[0]
        except (OSError, IndexError):
            # A kernel without this file (CONFIG_HAVE_ARCH_TRACEHOOK), or the process has ended.
            system_call = ""
        # Blocked for a signalfd(2), or awaited in sigtimedwait(2), as init programs do, is handled as well.
        if system_call == str(syscalls.number("rt_sigtimedwait")):
            return True
        return any(mask >> (number - 1) & 1 for mask in masks)

    def _resize(self) -> None:
        if self._master >= 0:
            try:
                terminal.set_window_size(self._master, *terminal.window_size(0 if os.isatty(0) else 1))
            except OSError:
                pass

    def _reap(self) -> None:
        result = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        assert result is not None
        if result.si_code == os.CLD_EXITED:
            self.status = result.si_status
        else:
            self.status = 128 + (
                self._fatal if self._fatal and result.si_status == signals.SIGKILL else result.si_status
            )


def _complain(text: str) -> None:
    try:
        os.write(2, f"pycontainer: {text}\n".encode())
    except OSError:
        pass
