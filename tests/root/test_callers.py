"""Callers that are odd: what they inherited from whoever started them must not matter to the container."""

from __future__ import annotations

import os
import pathlib
import resource
import signal
import subprocess
import sys
import time
from typing import Any

import pytest
from conftest import COMMAND, Pycontainer, is_unified, new_environment, remove_environment, wait_until

SECONDS = 60
NONE = ("run", "--rm", "--network", "none")
SLEEP = "(until grep -q ^sleep /proc/1/cmdline; do :; done; echo ready) & exec sleep 1000"


def call(box: Pycontainer, *arguments: str | bytes, **keywords: Any) -> subprocess.CompletedProcess[Any]:
    """The command line, with the arguments of subprocess.run."""
    options: dict[str, Any] = {
        "env": {**os.environ, **box.environment}, "timeout": SECONDS, "text": True,
        "stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE,
    }  # fmt: skip
    return subprocess.run([*COMMAND, *arguments], **{**options, **keywords})


def check_ran(result: subprocess.CompletedProcess[Any], output: str, status: int = 0) -> None:
    assert (result.returncode, result.stdout, result.stderr) == (status, output, "")


def check_message(result: subprocess.CompletedProcess[Any], status: int, *texts: str) -> None:
    assert result.returncode == status, result.stderr
    for text in texts:
        assert text in result.stderr, result.stderr
    assert len(result.stderr.splitlines()) in (1, 2), result.stderr
    assert result.stderr.startswith("pycontainer: ")
    assert "Traceback" not in result.stderr
    assert "fault of pycontainer's" not in result.stderr


def script(text: str) -> tuple[str, ...]:
    return "busybox", "sh", "-c", text


class TestInherited:
    @pytest.mark.parametrize("umask", [0o077, 0o777, 0])
    @pytest.mark.parametrize("userns", [[], ["--userns", "host"]], ids=["userns", "host"])
    def test_umask(self, box: Pycontainer, umask: int, userns: list[str]) -> None:
        look = script("ls / >/dev/null && cat /etc/hostname && touch /tmp/x && stat -c %a /tmp/x && umask")
        result = call(box, *NONE, *userns, "-u", "1000", "-h", "inside", *look, umask=umask)
        check_ran(result, "inside\n644\n0022\n")
        options = ("-w", "/new/directory", "--tmpfs", "/new/tmpfs")
        result = call(box, *NONE, *userns, *options, *script("stat -c %a / /new /new/directory"), umask=umask)
        check_ran(result, "755\n755\n755\n")

    def test_umask_of_the_first_command(self, busybox_archive: pathlib.Path) -> None:
        """Which makes the store's directories and unpacks the layers."""
        environment = new_environment()
        try:
            box = Pycontainer(environment)
            call(box, "load", "-i", str(busybox_archive), umask=0o077, check=True)
            look = script("ls / >/dev/null && head -n 1 /etc/passwd")
            check_ran(call(box, *NONE, "-u", "1000", *look, umask=0o077), "root:x:0:0:root:/root:/bin/sh\n")
        finally:
            remove_environment(environment)

    def test_children_that_are_reaped_by_the_kernel(self, box: Pycontainer) -> None:
        ignore = lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # noqa: E731
        check_ran(call(box, *NONE, *script("echo ran; exit 42"), preexec_fn=ignore), "ran\n", 42)
        check_ran(call(box, *NONE, *script("kill -9 $$; sh -c 'exit 7'; exit $?"), preexec_fn=ignore), "", 7)
        # Not through a shell: busybox's ignores SIGQUIT itself.
        result = call(box, *NONE, "busybox", "sed", "-n", "/SigIgn/s/.*\t//p", "/proc/self/status", preexec_fn=ignore)
        check_ran(result, "0" * 16 + "\n")

    def test_blocked_and_ignored_signals(self, box: Pycontainer) -> None:
        def block() -> None:
            for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE, signal.SIGTERM, signal.SIGUSR1):
                signal.signal(number, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())

        look = ("busybox", "sed", "-n", "/Sig[BI]/s/.*\t//p", "/proc/self/status")
        check_ran(call(box, *NONE, *look, preexec_fn=block), ("0" * 16 + "\n") * 2)

    def test_a_blocked_signal_reaches_the_container_all_the_same(self, box: Pycontainer) -> None:
        block = lambda: signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # noqa: E731
        assert send(box, signal.SIGTERM, SLEEP, preexec_fn=block) == (143, b"")

    def test_groups(self, box: Pycontainer) -> None:
        look = script("sed -n 's/Groups:[[:space:]]*//p' /proc/self/status")
        for userns in ([], ["--userns", "host"]):
            result = call(box, *NONE, *userns, "-u", "1000:1001", *look, extra_groups=[0, 4, 27])
            assert result.stdout.split() == ["1001"], result.stderr

    def test_a_directory_that_was_removed(self, box: Pycontainer, tmp_path: pathlib.Path) -> None:
        gone = tmp_path / "gone"
        gone.mkdir()
        leave = 'cd "$1" && rmdir "$1" && shift && exec "$@"'
        for arguments, output in (((*NONE, "busybox", "pwd"), "/\n"), (("ps", "-aq"), "")):
            gone.mkdir(exist_ok=True)
            command = ["sh", "-c", leave, "sh", str(gone), *COMMAND, *arguments]
            result = subprocess.run(
                command, env={**os.environ, **box.environment}, capture_output=True, text=True, timeout=SECONDS
            )
            check_ran(result, output)
        gone.mkdir(exist_ok=True)
        command = ["sh", "-c", leave, "sh", str(gone), *COMMAND, *NONE, "-v", "./x:/x", "busybox", "true"]
        result = subprocess.run(
            command, env={**os.environ, **box.environment}, capture_output=True, text=True, timeout=SECONDS
        )
        check_message(result, 125)

    def test_odd_variables(self, box: Pycontainer) -> None:
        for variables in (
            {"LC_ALL": "C"},
            {"LC_ALL": "no_SUCH.locale"},
            {"LANG": "\udcff"},
            {"HOME": ""},
            {"PATH": ""},
        ):
            environment = {**os.environ, **box.environment, **variables}
            check_ran(call(box, *NONE, *script("echo ran"), env=environment), "ran\n")

    def test_no_variables_at_all(self, box: Pycontainer) -> None:
        kept = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
        check_ran(call(box, *NONE, *script("echo ran"), env={**kept, **box.environment}), "ran\n")


class TestSignals:
    def test_nohup(self, box: Pycontainer) -> None:
        """A hang-up that the caller ignores does not end the container."""
        ignore = lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)  # noqa: E731
        process = start(box, "echo ready; cat; echo bye", preexec_fn=ignore)
        process.send_signal(signal.SIGHUP)
        assert finish(process) == (0, b"bye\n")

    def test_nohup_while_the_container_is_made(self, box: Pycontainer) -> None:
        """The signal is there before the command's first step."""

        def ignore() -> None:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            os.kill(os.getpid(), signal.SIGHUP)

        check_ran(call(box, *NONE, *script("echo ran"), preexec_fn=ignore), "ran\n")

    @pytest.mark.parametrize("number", [34, 35, 40, 50, 63, 64])
    def test_real_time_signals_are_forwarded(self, box: Pycontainer, number: int) -> None:
        """34 is the first that the C library leaves to programs."""
        assert send(box, number, SLEEP) == (128 + number, b"")
        handler = f"trap 'echo got; exit 7' {number}; echo ready; while :; do sleep 0.05; done"
        assert send(box, number, handler) == (7, b"got\n")

    def test_init_gets_the_signal(self, box: Pycontainer) -> None:
        """It waits for signals in sigtimedwait(2), without a handler."""
        if not os.path.exists("/usr/bin/tini-static"):
            pytest.skip("tini is not installed")
        program = "trap 'echo got; exit 7' TERM; echo ready; while :; do sleep 0.05; done"
        assert send(box, signal.SIGTERM, program, "--init") == (7, b"got\n")


def start(box: Pycontainer, text: str, *options: str, **keywords: Any) -> subprocess.Popen[bytes]:
    process = box.popen(*NONE, "-i", *options, *script(text), stdin=subprocess.PIPE, stdout=subprocess.PIPE, **keywords)
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    return process


def finish(process: subprocess.Popen[bytes]) -> tuple[int, bytes]:
    try:
        output = process.communicate(timeout=SECONDS)[0]
    finally:
        process.kill()
    return process.returncode, output


def send(box: Pycontainer, number: int, text: str, *options: str, **keywords: Any) -> tuple[int, bytes]:
    """Start a program, send it a signal when it is ready; its status and what it said after that."""
    process = start(box, text, *options, **keywords)
    process.send_signal(number)
    return finish(process)


class TestDescriptors:
    def test_more_than_select_can_count(self, box: Pycontainer) -> None:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        if hard != resource.RLIM_INFINITY and hard < 2000:
            pytest.skip("the limit of open files was lowered here")

        # From 3 on, without a gap that the command's own would fit into.
        fill = """if True:
            import os, resource, sys
            resource.setrlimit(resource.RLIMIT_NOFILE, (2000, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
            while (descriptor := os.open("/dev/null", os.O_RDONLY)) < 1100:
                os.set_inheritable(descriptor, True)
            os.execv(sys.argv[1], sys.argv[1:])
        """
        look = script("cat; set -- /proc/$$/fd/*; echo $#")
        for options, text in ((("-i",), "passed\n"), ((), "")):
            result = subprocess.run(
                [sys.executable, "-c", fill, *COMMAND, *NONE, *options, *look],
                env={**os.environ, **box.environment},
                input="passed\n", capture_output=True, text=True, timeout=SECONDS,
            )  # fmt: skip
            check_ran(result, f"{text}4\n")

    @pytest.mark.parametrize("limit", [24, 32, 64])
    def test_few_open_files(self, box: Pycontainer, limit: int) -> None:
        """The container starts, or it is said what is missing."""
        lower = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))  # noqa: E731
        result = call(box, *NONE, *script("echo ran"), preexec_fn=lower)
        if result.returncode == 0:
            check_ran(result, "ran\n")
        else:
            check_message(result, 125, "too many open files")
        assert limit < 64 or result.returncode == 0

    @pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1), (1, 2), (0, 1, 2)])
    @pytest.mark.parametrize("options", [(), ("-i",)], ids=["plain", "interactive"])
    def test_closed(self, box: Pycontainer, closed: tuple[int, ...], options: tuple[str, ...]) -> None:
        def close() -> None:
            for number in closed:
                os.close(number)

        result = call(
            box,
            *NONE,
            *options,
            *script("echo out; echo err >&2; set -- /proc/$$/fd/*; echo $#; exit 5"),
            preexec_fn=close,
        )
        assert result.returncode == 5
        assert result.stdout == ("" if 1 in closed else "out\n4\n")
        assert result.stderr == ("" if 2 in closed else "err\n")
        result = call(box, "ps", "-aq", preexec_fn=close)
        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")

    @pytest.mark.parametrize("arguments", [["run"], ["run", "-t"], ["ps"], ["--version"], ["--help"], ["images"]])
    def test_a_full_device(self, box: Pycontainer, arguments: list[str]) -> None:
        run = arguments[:1] == ["run"]
        command = (
            [*NONE, *arguments[1:], "busybox", "sh", "-c", "head -c 100000 /dev/zero; exit 3"] if run else arguments
        )
        with open("/dev/full", "wb", buffering=0) as full:
            result = call(box, *command, stdout=full, timeout=20)
        check_message(result, result.returncode, "no space left")
        # The container's status is its program's, which ended by SIGPIPE or wrote all that it had before.
        assert run or result.returncode != 0
        assert call(box, "ps", "-aq").stdout == ""

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
    def test_a_signal_ends_who_waits_for_a_reader_that_stalls(self, box: Pycontainer, number: signal.Signals) -> None:
        # A program of its own holds the last of the output, so that the container can end before it was read.
        command = (
            *NONE[:1],
            "--name",
            "stalled",
            *NONE[2:],
            *script("head -c 300000 /dev/zero & sleep 0.1; kill -9 $!"),
        )
        process = box.popen(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            status = ("ps", "-a", "--filter", "name=^stalled$", "--format", "{{.State}}")
            wait_until(lambda: box(*status).stdout == "exited\n")
            # The client hears of it when it has, and what it is told before is the program's.
            deadline = time.monotonic() + 30
            while process.poll() is None and time.monotonic() < deadline:
                process.send_signal(number)
                time.sleep(0.02)
            assert process.poll() == 128 + number
            process.communicate()
        finally:
            process.kill()
            box("rm", "-f", "stalled", check=True)

    def test_a_reader_that_goes_away(self, box: Pycontainer) -> None:
        """The terminal's other end is read on, so that the program does not wait for ever."""
        process = box.popen(*NONE, "-t", *script("yes | head -n 100000; exit 3"), stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
        try:
            assert process.stdout.read(1) == b"y"
            process.stdout.close()
            process.wait(20)
        finally:
            process.kill()
            process.wait()
            process.stderr.close()
            call(box, "ps", check=True)

    def test_a_full_device_for_the_errors(self, box: Pycontainer) -> None:
        with open("/dev/full", "wb", buffering=0) as full:
            assert call(box, *NONE, "nosuch", stderr=full).returncode == 125
            # It is not the program's fault; it goes on without its errors.
            result = call(box, *NONE, *script("trap '' PIPE; echo x >&2; sleep 0.2; echo out; exit 3"), stderr=full)
            assert (result.returncode, result.stdout) == (3, "out\n")
            for style in ("steps", "calls", "json"):
                result = call(box, *NONE, f"--explain={style}", *script("echo out; exit 3"), stderr=full)
                assert (result.returncode, result.stdout) == (3, "out\n")
        assert call(box, "ps", "-aq").stdout == ""

    def test_output_that_cannot_be_written(self, box: Pycontainer) -> None:
        """A descriptor 1 that is open for reading only."""
        with open("/dev/null", "rb") as reader:
            result = call(box, *NONE, *script("echo x; exit 0"), stdout=reader)
        assert "Traceback" not in result.stderr
        assert "fault of pycontainer's" not in result.stderr

    def test_one_file_for_output_and_errors(self, box: Pycontainer, tmp_path: pathlib.Path) -> None:
        with open(tmp_path / "both", "wb") as file:
            call(box, *NONE, *script("echo out; sleep 0.2; echo err >&2"), stdout=file, stderr=file, check=True)
        assert (tmp_path / "both").read_text() == "out\nerr\n"

    def test_non_blocking_output(self, box: Pycontainer) -> None:
        """Nothing is lost where the reader is slow and writes would block; nor is the caller's descriptor changed."""
        reader, writer = os.pipe()
        try:
            os.set_blocking(writer, False)
            process = box.popen(
                *NONE, *script("head -c 1000000 /dev/zero"), stdin=subprocess.DEVNULL, stdout=writer,
            )  # fmt: skip
            assert not os.get_blocking(writer)
            os.close(writer)
            writer = -1
            size = 0
            while data := os.read(reader, 1 << 16):
                size += len(data)
            assert (size, process.wait(SECONDS)) == (1_000_000, 0)
        finally:
            os.close(reader)
            if writer >= 0:
                os.close(writer)


class TestBytes:
    """Arguments, names and variables are bytes, UTF-8 or not."""

    @pytest.mark.parametrize("locale", [{}, {"LC_ALL": "C"}, {"LC_ALL": "C.UTF-8"}])
    def test_they_arrive_as_they_are(self, box: Pycontainer, locale: dict[str, str]) -> None:
        environment = {**os.environ, **box.environment, **locale}
        word = b"\xff\xfe caf\xc3\xa9 \xe9"
        result = call(
            box, *NONE, "-e", b"A=" + word, "-w", b"/dir\xff", "busybox", "sh", "-c", 'echo "$1 $A $PWD"', "sh", word,
            env=environment, text=False,
        )  # fmt: skip
        assert (result.returncode, result.stderr) == (0, b"")
        assert result.stdout == word + b" " + word + b" /dir\xff\n"

    def test_a_variable_of_the_callers(self, box: Pycontainer) -> None:
        environment = {
            **os.environb,
            **{os.fsencode(k): os.fsencode(v) for k, v in box.environment.items()},
            b"A": b"\xff",
        }
        result = call(box, *NONE, "-e", "A", *script('printf %s "$A"'), env=environment, text=False)
        assert (result.stdout, result.stderr) == (b"\xff", b"")

    @pytest.mark.parametrize(
        "name", [b"\xff\xfe", b"/no/such/\xff", b"x" * 100_000, b"/" + b"x" * 100_000, b"\n\x1b[2J"]
    )
    def test_a_program_that_is_not_there(self, box: Pycontainer, name: bytes) -> None:
        result = call(box, *NONE, "busybox", name, text=False)
        text = result.stderr.decode()
        assert result.returncode in (126, 127), text[:300]
        assert len(text.splitlines()) in (1, 2)
        assert "\x1b" not in text
        assert "fault of pycontainer's" not in text
        assert len(text) < 10_000

    @pytest.mark.parametrize(
        "arguments",
        [
            [b"\xff"], ["--name", b"\xff", "busybox"], ["-u", b"\xff", "busybox"],
            ["--entrypoint", b"\xff", "busybox"], [b"--\xff", "busybox"], ["--network", b"\xff", "busybox"],
            ["--env-file", b"/no/\xff", "busybox"], ["--tmpfs", b"/x:\xff", "busybox"],
            ["-v", b"/no/\xff:/x\xff", "--bogus", "busybox"],
        ],
    )  # fmt: skip
    def test_mistakes_are_explained(self, box: Pycontainer, arguments: list[str | bytes]) -> None:
        result = call(box, *NONE, *arguments, text=False)
        text = result.stderr.decode()
        assert result.returncode in (125, 127), text
        assert len(text.splitlines()) in (1, 2)
        assert "fault of pycontainer's" not in text
        assert "Traceback" not in text

    def test_ps_shows_them_without_failing(self, box: Pycontainer) -> None:
        command = ("busybox", "echo", b"\xff", "a\nb\x1b[2J")
        call(box, "run", "--network", "none", "--name", "bytes", "-l", b"a=\xff", *command, text=False)
        try:
            for locale in ({}, {"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}):
                result = call(box, "ps", "-a", env={**os.environ, **box.environment, **locale}, text=False)
                assert (result.returncode, result.stderr) == (0, b"")
                assert len(result.stdout.splitlines()) == 2
                assert b"\x1b" not in result.stdout
        finally:
            call(box, "rm", "bytes", check=True)


class TestWords:
    """Ways of writing options that docker's users have in their fingers."""

    @pytest.mark.parametrize(
        ("options", "output"),
        [
            (["-e=A=b"], "b"), (["-eA=b"], "b"), (["--env=A=b"], "b"), (["-e", "A==b"], "=b"), (["-e=A==b"], "=b"),
            (["-i=true", "-e", "A=1"], "1"), (["--interactive=false", "-e=A=2"], "2"), (["-ie=A=3"], "3"),
            (["--read-only=true", "-e", "A=4"], "4"), (["--privileged=false", "-e", "A=5"], "5"), (["-e", "A="], ""),
        ],
    )  # fmt: skip
    def test_values(self, box: Pycontainer, options: list[str], output: str) -> None:
        check_ran(call(box, *NONE, *options, *script("echo $A")), f"{output}\n")

    def test_flags_with_values(self, box: Pycontainer) -> None:
        network = ("--network", "none")
        for flag in ("--rm=true", "--rm=1"):
            check_ran(call(box, "run", flag, *network, *script("echo ran")), "ran\n")
            assert call(box, "ps", "-aq").stdout == ""
        check_ran(call(box, "run", "--rm=false", "--name", "kept", *network, *script("echo ran")), "ran\n")
        assert call(box, "rm", "kept", check=True).stdout == "kept\n"
        check_ran(call(box, *NONE, "-i=true", "busybox", "cat", stdin=None, input="in"), "in")
        check_ran(call(box, *NONE, "-i=false", "busybox", "cat", stdin=None, input="in"), "")
        check_message(call(box, *NONE, "--rm=maybe", "busybox", "true"), 125, "--rm")
        check_message(call(box, *NONE, "-i=maybe", "busybox", "true"), 125, "pycontainer run --help")

    def test_sizes(self, box: Pycontainer) -> None:
        result = call(box, *NONE, "-m=64m", *script("echo ran"))
        if is_unified():
            check_ran(result, "ran\n")
        else:
            check_message(result, 125, "the memory controller")

    def test_a_variable_that_the_caller_lacks_is_removed(self, box: Pycontainer) -> None:
        environment = {**os.environ, **box.environment}
        environment.pop("PATH_OF_IMAGE", None)
        archive = subprocess.run(["tar", "-c", "-C", "/bin", "busybox"], stdout=subprocess.PIPE, check=True).stdout
        call(box, "import", "-c", "ENV KEY=image OTHER=kept", "-", "withenv", stdin=None, input=archive, text=False,
             check=True)  # fmt: skip
        environment.pop("KEY", None)
        program = ("withenv", "/busybox", "env")
        with_it = call(box, *NONE, *program, env=environment).stdout.splitlines()
        without = call(box, *NONE, "-e", "KEY", *program, env=environment).stdout.splitlines()
        callers = call(box, *NONE, "-e", "KEY", *program, env={**environment, "KEY": "caller"}).stdout.splitlines()
        assert "KEY=image" in with_it and "OTHER=kept" in with_it
        assert not [line for line in without if line.startswith("KEY")] and "OTHER=kept" in without
        assert "KEY=caller" in callers

    def test_rm_words_its_errors_like_everybody(self, box: Pycontainer) -> None:
        result = call(box, "rm", "nosuch", "neither")
        assert result.returncode == 1
        lines = result.stderr.splitlines()
        assert [line for line in lines if "nosuch" in line] and [line for line in lines if "neither" in line]
        assert all(line.startswith(("pycontainer: ", "hint: ")) for line in lines)


def test_nothing_was_left(box: Pycontainer) -> None:
    assert call(box, "ps", "-aq").stdout == ""
    containers = box.root / "containers"
    assert not containers.exists() or list(containers.iterdir()) == []
    assert not list(box.state.glob("*/*"))
