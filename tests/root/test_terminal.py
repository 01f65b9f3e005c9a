"""-t on a real pseudoterminal: prompt, size, job control, exit status, and the caller's terminal as it was."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator

import pytest
from conftest import COMMAND, Pycontainer, wait_until

SECONDS = 30


class Terminal:
    """The command line in the foreground of a terminal of its own, and a user who types and reads."""

    def __init__(self, box: Pycontainer, *arguments: str, rows: int = 24, columns: int = 80) -> None:
        self.master, self.slave = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self.slave)
        self.seen = b""
        self.process = subprocess.Popen(
            [*COMMAND, "run", "--rm", "--network", "none", *arguments],
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            env={**os.environ, **box.environment},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def resize(self, rows: int, columns: int) -> None:
        """What a terminal emulator does; the kernel sends SIGWINCH."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def expect(self, pattern: str) -> re.Match[bytes]:
        """Read until the pattern is there, and forget what was read up to its end."""
        deadline = time.monotonic() + SECONDS
        while not (match := re.search(pattern.encode(), self.seen)):
            if not select.select([self.master], [], [], max(0, deadline - time.monotonic()))[0]:
                raise AssertionError(f"{pattern!r} did not come: {self.seen!r}")
            try:
                self.seen += os.read(self.master, 4096)
            except OSError:
                raise AssertionError(f"{pattern!r} did not come before the end: {self.seen!r}") from None
        self.seen = self.seen[match.end() :]
        return match

    def ask(self, command: str, pattern: str) -> re.Match[bytes]:
        """Type a command; its output is told from its echo by words that the command does not spell."""
        self.type(f"{command}\n")
        return self.expect(pattern)

    def wait(self) -> int:
        """The exit status. Reads on, as a terminal does: the last output would hold the writer up otherwise."""
        deadline = time.monotonic() + SECONDS
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"it does not end: {self.seen!r}"
            if select.select([self.master], [], [], 0.05)[0]:
                self.seen += os.read(self.master, 4096)
        return self.process.returncode

    def is_as_before(self) -> bool:
        return termios.tcgetattr(self.slave) == self.before

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def open_terminal(box: Pycontainer) -> Iterator[object]:
    opened: list[Terminal] = []

    def open_one(*arguments: str, **keywords: int) -> Terminal:
        opened.append(Terminal(box, *arguments, **keywords))
        return opened[-1]

    yield open_one
    for terminal in opened:
        terminal.close()


@pytest.fixture
def shell(open_terminal) -> Terminal:
    """An interactive shell at its first prompt."""
    terminal = open_terminal("-it", "busybox", "sh")
    terminal.expect("[#$] ")
    return terminal


def test_a_session_and_its_exit_status(shell: Terminal) -> None:
    wait_until(lambda: not shell.is_as_before(), message="the caller's terminal is not raw")
    shell.ask("echo $((40 + 2))", "42\r\n")
    shell.ask("tty", "/dev/pts/0\r\n")
    shell.ask("test -t 0 && test -t 1 && test -t 2 && echo all-$((1 + 2))", "all-3")
    shell.ask("echo $TERM-$((1 + 2))", "xterm-3")
    shell.ask("stat -c '%t:%T=%F' /dev/console", "88:0=character special file")
    shell.type("exit 42\n")
    assert shell.wait() == 42
    assert shell.is_as_before()


def test_end_of_file_ends_the_shell(shell: Terminal) -> None:
    shell.type("\x04")
    assert shell.wait() == 0


def test_the_window_has_the_callers_size_and_follows_it(open_terminal) -> None:
    terminal = open_terminal("-it", "busybox", "sh", rows=31, columns=97)
    terminal.expect("[#$] ")
    terminal.ask("stty size", "31 97\r\n")
    terminal.resize(50, 132)
    terminal.ask("stty size", "50 132\r\n")
    terminal.type("exit\n")
    assert terminal.wait() == 0


def test_the_program_is_told_of_a_new_size(open_terminal) -> None:
    script = "trap 'echo now $(stty size)' WINCH; echo ready; while :; do sleep 0.05; done"
    terminal = open_terminal("-it", "busybox", "sh", "-c", script, rows=10, columns=20)
    terminal.expect("ready")
    terminal.resize(50, 132)
    terminal.expect("now 50 132\r\n")
    terminal.process.send_signal(signal.SIGTERM)
    assert terminal.wait() == 143


def test_ctrl_c_ends_the_foreground_job_and_not_the_shell(shell: Terminal) -> None:
    shell.ask("echo go-$((1 + 2)); sleep 1000", "go-3")
    wait_for_foreground(shell)
    shell.type("\x03")
    shell.expect("[#$] ")
    shell.ask("echo status-$?", "status-130")
    shell.type("exit\n")
    assert shell.wait() == 0  # of the echo


def wait_for_foreground(shell: Terminal) -> None:
    """Until the shell has given the terminal to its job: then its own line editing is off again."""
    time.sleep(0.3)


def test_ctrl_z_stops_the_job_and_fg_takes_it_back(shell: Terminal) -> None:
    shell.ask("echo go-$((1 + 2)); cat", "go-3")
    wait_for_foreground(shell)
    shell.type("\x1a")
    shell.expect("[Ss]topped")
    shell.ask("echo here-$((1 + 2))", "here-3")
    shell.ask("jobs", "cat")
    shell.type("fg\n")
    wait_for_foreground(shell)
    shell.type("line\n")
    shell.expect("line\r\nline\r\n")
    shell.type("\x04")
    shell.expect("[#$] ")
    shell.type("exit 3\n")
    assert shell.wait() == 3


def test_ctrl_c_without_a_shell_ends_the_container(open_terminal) -> None:
    script = "(until grep -q ^sleep /proc/1/cmdline; do :; done; echo ready) & exec sleep 1000"
    terminal = open_terminal("-it", "busybox", "sh", "-c", script)
    terminal.expect("ready")
    terminal.type("\x03")
    # The terminal's own Ctrl-C reaches PID 1 without a handler, for which the kernel drops it; SIGTERM of ours ends it.
    time.sleep(0.2)
    if terminal.process.poll() is None:
        terminal.process.send_signal(signal.SIGTERM)
    assert terminal.wait() in (130, 143)
    assert terminal.is_as_before()


def test_sigterm_to_the_command_line_leaves_a_usable_terminal(open_terminal) -> None:
    terminal = open_terminal("-it", "busybox", "sh", "-c", "echo ready; exec sleep 1000")
    terminal.expect("ready")
    terminal.process.send_signal(signal.SIGTERM)
    assert terminal.wait() == 143
    assert terminal.is_as_before()


def test_a_hang_up_ends_the_container(open_terminal, box: Pycontainer) -> None:
    terminal = open_terminal("-it", "busybox", "sh", "-c", "echo ready; exec sleep 1000")
    terminal.expect("ready")
    terminal.process.send_signal(signal.SIGHUP)
    assert terminal.wait() == 129
    assert terminal.is_as_before()


def test_an_error_leaves_a_usable_terminal_too(open_terminal) -> None:
    terminal = open_terminal("-it", "busybox", "nosuch")
    assert terminal.wait() == 127
    assert b"executable file not found" in terminal.seen
    assert b"\r\n" in terminal.seen
    assert terminal.is_as_before()


def test_t_without_i_shows_colours_to_a_pipe(box: Pycontainer) -> None:
    script = "test -t 1 && echo terminal"
    result = box("run", "--rm", "--network", "none", "-t", "busybox", "sh", "-c", script, text=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout == b"terminal\r\n"


def test_much_output_arrives_whole(open_terminal) -> None:
    terminal = open_terminal("-it", "busybox", "sh", "-c", "seq 20000; echo the-end")
    deadline = time.monotonic() + SECONDS
    text = b""
    while b"the-end" not in text:
        assert select.select([terminal.master], [], [], max(0, deadline - time.monotonic()))[0]
        text += os.read(terminal.master, 65536)
    assert terminal.wait() == 0
    assert text.split() == [*(str(number).encode() for number in range(1, 20001)), b"the-end"]


def test_an_ordinary_user_owns_the_terminal(open_terminal) -> None:
    terminal = open_terminal(
        "-it", "-u", "nobody", "busybox", "sh", "-c", "stat -c %U:%a /dev/pts/0; echo x > /dev/tty"
    )
    assert terminal.wait() == 0
    assert b"nobody:620" in terminal.seen
    assert b"x\r\n" in terminal.seen


def test_a_read_only_root_has_a_terminal(open_terminal) -> None:
    terminal = open_terminal("-it", "--read-only", "busybox", "tty")
    assert terminal.wait() == 0
    assert b"/dev/pts/0" in terminal.seen
