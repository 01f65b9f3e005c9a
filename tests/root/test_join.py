"""`pycontainer-runtime exec`: one more program in a container that runs, as if it were the container's own."""

from __future__ import annotations

import errno
import json
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import TESTS, new_directory, wait_until
from test_runtime import RUNTIME, Runtime

from pycontainer.errors import Conflict
from pycontainer.kernel import cgroup
from pycontainer.kernel.root_path import read_in_root
from pycontainer.runtime import join, state

SECONDS = 30
FIRST = 1 << 30  # the user id on the host of a container's root
NAMES = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"]
SCRIPT = {
    "noexec": (0o644, "#!/bin/sh\n"),
    "orphan": (0o755, "#!/no/such/interpreter\n"),
    "itself": (0o755, "#!/proc/self/exe\n"),
    "ordinary": (0o755, "#!/bin/sh\necho ordinary\n"),
}


@pytest.fixture(scope="module")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pathlib.Path]:
    """A root file system with busybox, some scripts, and what gets at other processes where it can be compiled."""
    if not os.path.exists("/bin/busybox"):
        pytest.skip("busybox is not installed")
    directory = new_directory()
    directory.chmod(0o755)
    for name in ("bin", "etc", "proc", "sys", "dev", "tmp", "private"):
        (directory / name).mkdir()
    (directory / "private").chmod(0o700)
    os.chown(directory / "private", FIRST + 5, FIRST + 5)
    (directory / "etc/passwd").write_text("inside\n")
    shutil.copy2("/bin/busybox", directory / "bin/busybox")
    for name in ("sh", "sleep", "true", "cat", "echo", "id", "pwd", "tty", "kill", "ls", "stty", "env", "sed", "wc"):
        (directory / "bin" / name).symlink_to("busybox")
    for name, (mode, text) in SCRIPT.items():
        (directory / "bin" / name).write_text(text)
        (directory / "bin" / name).chmod(mode)
    (directory / "bin/exe").symlink_to("/proc/self/exe")
    if shutil.which("cc"):
        source, program = TESTS / "root/intruder.c", directory / "bin/intruder"
        subprocess.run(["cc", "-O1", "-static", "-o", program, source], check=True)
    yield directory
    shutil.rmtree(directory)


def make(rootfs: pathlib.Path, kind: str) -> Runtime:
    """A bundle; `kind` is user, host (without a user namespace) or shared (with none but the mount namespace)."""
    runtime = Runtime(new_directory(), rootfs)
    runtime.config["process"]["capabilities"] = {
        name: ["CAP_CHOWN", "CAP_KILL", "CAP_DAC_OVERRIDE"] for name in ("bounding", "effective", "permitted")
    }
    linux = runtime.config["linux"]
    if kind == "user":
        linux["namespaces"].append({"type": "user"})
        linux["uidMappings"] = linux["gidMappings"] = [{"containerID": 0, "hostID": FIRST, "size": 65536}]
    elif kind == "shared":
        linux["namespaces"] = [{"type": "mount"}]
    return runtime


def start(runtime: Runtime, *args: str, **process: Any) -> Runtime:
    runtime.write(*args, **process)
    runtime.create()
    runtime("start", "c")
    return runtime


def remove(runtime: Runtime) -> None:
    runtime("delete", "--force", "c")
    shutil.rmtree(runtime.bundle.parent)
    parent = directory_of_cgroup(runtime).parent
    if parent.exists():
        parent.rmdir()


def directory_of_cgroup(runtime: Runtime) -> pathlib.Path:
    hierarchy = cgroup.find_hierarchy()
    assert hierarchy is not None
    return pathlib.Path(hierarchy.mountpoint + runtime.config["linux"]["cgroupsPath"])


def members(runtime: Runtime) -> list[int]:
    return [int(line) for line in (directory_of_cgroup(runtime) / "cgroup.procs").read_text().split()]


def container_state(runtime: Runtime) -> state.State:
    return state.load(str(runtime.root), "c")


@pytest.fixture(scope="module", params=["user", "host", "shared"])
def anyone(request: pytest.FixtureRequest, rootfs: pathlib.Path) -> Iterator[Runtime]:
    """A container that sleeps, of each kind; tests leave it as it was."""
    runtime = make(rootfs, request.param)
    try:
        yield start(runtime, "sleep", "1000")
    finally:
        remove(runtime)


@pytest.fixture(scope="module")
def sleeper(rootfs: pathlib.Path) -> Iterator[Runtime]:
    """One with a user namespace."""
    runtime = make(rootfs, "user")
    try:
        yield start(runtime, "sleep", "1000")
    finally:
        remove(runtime)


@pytest.fixture(params=["user", "host"])
def own(request: pytest.FixtureRequest, rootfs: pathlib.Path) -> Iterator[Runtime]:
    """A bundle of the test's own, with and without a user namespace."""
    runtime = make(rootfs, request.param)
    yield runtime
    remove(runtime)


def alone(runtime: Runtime) -> None:
    """Only the first process is left."""
    wait_until(
        lambda: members(runtime) == [container_state(runtime).pid], message="more than the first process is left"
    )


class TestWhere:
    def test_its_namespaces(self, anyone: Runtime) -> None:
        found = anyone("exec", "c", "sh", "-c", f"ls -l {' '.join(f'/proc/self/ns/{name}' for name in NAMES)}")
        pid = container_state(anyone).pid
        expected = [os.readlink(f"/proc/{pid}/ns/{name}") for name in NAMES]
        assert [line.split()[-1] for line in found.splitlines()] == expected
        alone(anyone)

    def test_its_cgroup_and_root(self, anyone: Runtime, tmp_path: pathlib.Path) -> None:
        anyone("exec", "-d", "--pid-file", str(tmp_path / "pid"), "c", "sleep", "1000")
        pid = int((tmp_path / "pid").read_text())
        first = container_state(anyone).pid
        try:
            assert sorted(members(anyone)) == sorted([first, pid])
            assert os.path.samestat(os.stat(f"/proc/{pid}/root/"), os.stat(f"/proc/{first}/root/"))
            assert os.listdir(f"/proc/{pid}/task") == [str(pid)]
        finally:
            os.kill(pid, signal.SIGKILL)
        alone(anyone)

    def test_a_cgroup_that_the_container_has_divided(self, own: Runtime) -> None:
        """As systemd does: with a controller enabled for its children, a cgroup may have no processes itself."""
        start(own, "sleep", "1000")
        directory = directory_of_cgroup(own)
        controllers = set((directory / "cgroup.controllers").read_text().split()) - {"cpu", "cpuset", "pids"}
        if not controllers:
            pytest.skip("no controller of this kernel's forbids processes in inner cgroups")
        (directory / "inner").mkdir()
        (directory / "inner/cgroup.procs").write_text(str(container_state(own).pid))
        (directory / "cgroup.subtree_control").write_text(f"+{controllers.pop()}")
        assert own("exec", "c", "sed", "-n", "s/^0:://p", "/proc/self/cgroup") == "/inner\n"

    def test_open_root(self, anyone: Runtime) -> None:
        root = join.open_root(container_state(anyone))
        try:
            assert read_in_root(root, "/etc/passwd", 100) == b"inside\n"
            assert read_in_root(root, "../../etc/passwd", 100) == b"inside\n"
        finally:
            os.close(root)


REPORT = """
sed -n '/^Umask\\|^[UG]id\\|^Groups\\|^Sig[BIC]\\|^Cap\\|^NoNewPrivs\\|^Seccomp/p' /proc/self/status
cat /proc/self/limits /proc/self/oom_score_adj; pwd; env; ls /proc/self/fd; cat /proc/self/cgroup
sed -n 's/^NSsid:.*\\t/session /p' /proc/$$/status | wc -l
"""


class TestProgram:
    def test_it_has_what_the_first_process_would_have(self, own: Runtime) -> None:
        names = {"bounding": ["CAP_KILL", "CAP_CHOWN"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"]}
        process: dict[str, Any] = {
            "args": ["sh", "-c", REPORT], "cwd": "/tmp", "env": ["PATH=/bin", "A=b c"], "oomScoreAdj": 100,
            "user": {"uid": 5, "gid": 6, "additionalGids": [7, 8], "umask": 0o27}, "noNewPrivileges": True,
            "capabilities": {**names, "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]},
            "rlimits": [{"type": f"RLIMIT_{name}", "soft": 40, "hard": 50} for name in ("NOFILE", "CORE")],
        }  # fmt: skip
        own.write(**process)
        first = own.run()
        assert "Groups:\t7 8" in first and "A=b c\n" in first and "/tmp\n" in first
        start(own, "sleep", "1000")
        file = own.bundle / "process.json"
        file.write_text(json.dumps(process))
        assert own("exec", "--process", str(file), "c") == first
        # And the same where only the command is another one.
        assert own("exec", "c", "sh", "-c", REPORT) == first

    def test_options(self, anyone: Runtime) -> None:
        status = "sed -n 's/CapBnd:.*\\(...\\)$/\\1/p; s/NoNewPrivs:.//p' /proc/self/status"
        script = f"id -u; id -g; id -G; pwd; echo $A; {status}"
        options = ["-u", "5:6", "-g", "7", "-g", "8", "--cwd", "/tmp", "-e", "A=b", "--env=A=c", "--cap", "CAP_FOWNER"]
        found = anyone("exec", *options, "--no-new-privs", "c", "sh", "-c", script).split("\n")
        assert found[:5] == ["5", "6", "6 7 8", "/tmp", "c"]
        # CAP_CHOWN, CAP_DAC_OVERRIDE and CAP_KILL are the container's.
        assert found[5:7] == [f"{1 << 0 | 1 << 1 | 1 << 3 | 1 << 5:03x}", "1"]

    def test_options_of_the_program_are_its_own(self, sleeper: Runtime) -> None:
        assert sleeper("exec", "c", "echo", "-d", "--tty", "-n") == "-d --tty -n\n"
        assert sleeper("exec", "--", "c", "echo", "--cwd") == "--cwd\n"

    def test_a_directory_that_only_its_user_may_enter(self, sleeper: Runtime) -> None:
        assert sleeper("exec", "-u", "5:5", "--cwd", "/private", "c", "pwd") == "/private\n"

    def test_descriptors(self, anyone: Runtime) -> None:
        descriptor = os.open("/etc/passwd", os.O_RDONLY)
        try:
            # ls has the directory open besides.
            assert anyone("exec", "c", "ls", "/proc/self/fd", pass_fds=[descriptor]).split() == ["0", "1", "2", "3"]
        finally:
            os.close(descriptor)

    def test_input_and_output(self, sleeper: Runtime) -> None:
        command = [*RUNTIME, "--root", sleeper.root, "exec", "c", "sh", "-c", "cat; echo err >&2; exit 42"]
        result = subprocess.run(command, input="in\n", capture_output=True, text=True, timeout=SECONDS)
        assert (result.returncode, result.stdout, result.stderr) == (42, "in\n", "err\n")

    @pytest.mark.parametrize("closed", [(0,), (0, 1, 2)])
    def test_closed_descriptors(self, sleeper: Runtime, closed: tuple[int, ...]) -> None:
        """As a caller of `exec -d` may have them. They are not those of the engine's that got their numbers."""
        command = f"{' '.join(RUNTIME)} --root {sleeper.root} exec c sh -c 'test -c /proc/self/fd/0 && exit 6'"
        redirections = " ".join(f"{number}{'<' if number == 0 else '>'}&-" for number in closed)
        result = subprocess.run(["sh", "-c", f"{command} {redirections}"], timeout=SECONDS)
        assert result.returncode == 6

    @pytest.mark.parametrize(("script", "status"), [("exit 7", 7), ("kill -9 $$", 137), ("kill $$", 143)])
    def test_its_status(self, sleeper: Runtime, script: str, status: int) -> None:
        command = [*RUNTIME, "--root", sleeper.root, "exec", "c", "sh", "-c", script]
        assert subprocess.run(command, timeout=SECONDS).returncode == status

    @pytest.mark.parametrize(("trap", "expected"), [("trap 'exit 5' TERM", 5), (":", 128 + signal.SIGTERM)])
    def test_signals_are_passed_on(self, sleeper: Runtime, trap: str, expected: int) -> None:
        script = f"{trap}; echo ready; while :; do sleep 0.05; done"
        command = [*RUNTIME, "--root", sleeper.root, "exec", "c", "sh", "-c", script]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        with process:
            assert process.stdout is not None and process.stdout.readline() == b"ready\n"
            process.terminate()
            assert process.wait(SECONDS) == expected
        alone(sleeper)

    def test_it_outlives_its_caller(self, sleeper: Runtime) -> None:
        command = [*RUNTIME, "--root", sleeper.root, "exec", "c", "sh", "-c", "echo $$; exec sleep 1000"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        with process:
            assert process.stdout is not None
            pid = process.stdout.readline().decode().strip()
            process.kill()
            process.wait(SECONDS)
        try:
            # What stood between the two ends some time after its caller.
            wait_until(lambda: len(members(sleeper)) == 2)
        finally:
            sleeper("exec", "c", "kill", "-9", pid)
        alone(sleeper)

    def test_twenty_at_once(self, anyone: Runtime) -> None:
        command = [*RUNTIME, "--root", anyone.root, "exec", "c", "echo"]
        processes = [
            subprocess.Popen([*command, str(number)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for number in range(20)
        ]
        for number, process in enumerate(processes):
            assert process.communicate(timeout=60) == (f"{number}\n", "")
            assert process.returncode == 0
        alone(anyone)


class TestTerminal:
    def test_through_a_console_socket(self, anyone: Runtime, tmp_path: pathlib.Path) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(str(tmp_path / "console"))
            listener.listen()
            listener.settimeout(SECONDS)
            options = ["-t", "-d", "-u", "5:5", "--console-socket", str(tmp_path / "console")]
            anyone("exec", *options, "c", "sh", "-c", "tty; cat < $(tty); echo own > /dev/tty; ls -ln $(tty)")
            connection, _ = listener.accept()
            with connection:
                _, [master], _, _ = socket.recv_fds(connection, 100, 1)
        try:
            seen = b""
            # Because what is typed before is echoed before.
            while b"\n" not in seen:
                seen += os.read(master, 1000)
            os.write(master, b"typed\n\x04")
            seen += read_all(master)
        finally:
            os.close(master)
        number, *lines = seen.split(b"\r\n")
        assert re.fullmatch(rb"/dev/pts/\d", number), seen
        assert b"own" in lines
        # Its owner is the user, and its group that of the devpts.
        assert re.search(rb"crw\S+ +1 5 +5 ", seen), seen
        alone(anyone)

    def test_in_the_foreground(self, sleeper: Runtime) -> None:
        pid, master = pty.fork()
        if pid == 0:
            script = "stty size; echo own > /dev/tty; exit 3"
            os.execv(RUNTIME[0], [*RUNTIME, "--root", str(sleeper.root), "exec", "-t", "c", "sh", "-c", script])
        try:
            seen = read_all(master)
        finally:
            os.close(master)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3, seen
        assert b"own\r\n" in seen

    def test_without_one_it_is_refused(self, sleeper: Runtime) -> None:
        assert "--console-socket" in sleeper("exec", "-t", "-d", "c", "true", status=255)
        assert "/no/such" in sleeper("exec", "-t", "-d", "--console-socket", "/no/such", "c", "true", status=255)


def read_all(master: int) -> bytes:
    """What comes until nobody has the terminal open."""
    seen = b""
    while True:
        assert select.select([master], [], [], SECONDS)[0], seen
        try:
            data = os.read(master, 4096)
        except OSError as error:
            assert error.errno == errno.EIO
            return seen
        if not data:
            return seen
        seen += data


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "status", "message"),
        [
            (["c", "nosuch"], 127, "not found in $PATH"),
            (["c", "/no/such"], 127, "no such file"),
            (["c", "orphan"], 127, "/no/such/interpreter"),
            (["c", "/etc"], 126, "permission denied"),
            (["c", "noexec"], 126, "permission denied"),
            (["c", "/proc/self/exe"], 126, "the container engine's own interpreter"),
            (["c", "exe"], 126, "the container engine's own interpreter"),
            (["c", "itself"], 126, "the container engine's own interpreter"),
            (["--cwd", "/no/such", "c", "true"], 255, "working directory: /no/such: no such file"),
            (["--cwd", "/etc/passwd", "c", "true"], 255, "not a directory"),
            (["--cwd", "tmp", "c", "true"], 255, "absolute"),
            (["-u", "70000:70000", "c", "true"], 255, "set user"),
            (["-u", "root", "c", "true"], 255, "must be a number"),
            (["--cap", "CAP_BOGUS", "c", "true"], 255, "CAP_BOGUS"),
            (["-p", "/no/such/file", "c"], 255, "/no/such/file"),
            (["--pid-file", "/no/such/file", "c", "sleep", "1000"], 255, "/no/such/file"),
            (["c"], 255, "expected a command"),
            (["nosuch", "true"], 255, "container does not exist"),
            (["--bogus", "c", "true"], 1, "unknown option"),
        ],
    )  # fmt: skip
    def test_each_is_told_and_undone(self, sleeper: Runtime, arguments: list[str], status: int, message: str) -> None:
        assert message in sleeper("exec", *arguments, status=status)
        alone(sleeper)

    def test_only_in_a_container_that_runs(self, own: Runtime) -> None:
        own.write("sleep", "1000")
        own.create()
        # Made, but not started: as with runc.
        assert own("exec", "c", "echo", "inside") == "inside\n"
        own("start", "c")
        own("kill", "c", "KILL")
        own.wait_for("stopped")
        assert "not running" in own("exec", "c", "true", status=255)
        with pytest.raises(Conflict, match="not running"):
            join.open_root(container_state(own))

    def test_not_in_one_that_is_paused(self, own: Runtime) -> None:
        start(own, "sleep", "1000")
        freeze = directory_of_cgroup(own) / "cgroup.freeze"
        freeze.write_text("1")
        try:
            assert "paused" in own("exec", "c", "true", status=255)
        finally:
            freeze.write_text("0")
        assert own("exec", "c", "echo", "again") == "again\n"

    def test_the_directory_is_never_one_of_the_hosts(self, anyone: Runtime) -> None:
        """CVE-2024-21626: by a descriptor that the caller has open."""
        descriptor = os.open("/", os.O_RDONLY)
        try:
            paths = [f"/proc/self/fd/{number}" for number in (*range(3, 20), descriptor)]
            for path in (*paths, f"/proc/self/fd/{descriptor}/.."):
                anyone("exec", "--cwd", path, "c", "true", status=255, pass_fds=[descriptor])
        finally:
            os.close(descriptor)

    def test_while_the_container_ends(self, own: Runtime) -> None:
        """Whenever that is, the status says so, or is that of a program that was killed, or had ended before."""
        command = [*RUNTIME, "--root", own.root, "exec", "c", "sleep", "1000"]
        for _ in range(5):
            start(own, "sleep", "1000")
            processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
            wait_until(lambda: len(members(own)) > 1)
            own("kill", "c", "KILL")
            for process in processes:
                _, errors = process.communicate(timeout=SECONDS)
                assert process.returncode in (137, 255), errors
                assert process.returncode == 137 or "not running" in errors, errors
            own.wait_for("stopped")
            assert not members(own)
            own("delete", "c")


# Holds one of the two processes at one step until the caller is killed, and says its pid on the host.
HOLD = """
import os, sys, time
from pycontainer.runtime import init, join, main
from pycontainer.runtime.operations import identity

def hold(*arguments, **options):
    os.write({report}, b"here")
    time.sleep(1000)

if sys.argv.pop(1) == "joiner":
    init.give_up_privileges = hold
else:
    identity.NewSession.execute = hold
# Because nothing else of the caller's is open in those two.
close = join.descriptors.close_others
join.descriptors.close_others = lambda kept: close(kept | {{{report}}})
main.main()
"""


@pytest.mark.parametrize("where", ["joiner", "program"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_caller_that_is_killed_takes_it_along(own: Runtime, where: str, number: int) -> None:
    start(own, "sleep", "1000")
    reader, writer = os.pipe()
    command = [sys.executable, "-P", "-c", HOLD.format(report=writer), where, "--root", own.root, "exec", "c", "true"]
    process = subprocess.Popen(command, pass_fds=[writer], stderr=subprocess.DEVNULL)
    os.close(writer)
    try:
        assert os.read(reader, 4) == b"here"
        # The joiner may be about to end.
        wait_until(lambda: len(members(own)) == 2)
        process.send_signal(number)
        process.wait(SECONDS)
        alone(own)
    finally:
        os.close(reader)
        process.kill()
        process.wait()


# Executes programs in a container that is of no use for them, and says what is left of that in the caller.
FAILING = """
import os, sys
from pycontainer.errors import PycontainerError
from pycontainer.kernel.operation import Journal
from pycontainer.runtime import fields, join, spec, state

container = state.load(sys.argv[1], "c")
process = spec.read(container.bundle)["process"]
for changes in ({"args": ["true"]}, {"args": ["nosuch"]}, {"args": ["/etc"]}, {"cwd": "/no/such"},
                {"user": {"uid": 70000, "gid": 0}}, {"scheduler": {"policy": "SCHED_ISO"}}):
    program = spec.Process(fields.Fields({**process, **changes}, "process"))
    before = os.listdir("/proc/self/fd")
    try:
        joined = join.execute(container, program, Journal())
        os.waitid(os.P_PIDFD, joined.pidfd, os.WEXITED)
        os.close(joined.pidfd)
        print("ran")
    except PycontainerError as error:
        print(type(error).__name__)
    assert os.listdir("/proc/self/fd") == before
    try:
        print("child left", os.waitpid(-1, os.WNOHANG))
    except ChildProcessError:
        pass
"""


def test_nothing_is_left_in_the_caller(sleeper: Runtime) -> None:
    command = [sys.executable, "-P", "-c", FAILING, sleeper.root]
    result = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    kinds = ["ran", "CommandNotFound", "CommandNotExecutable", "StepFailed", "StepFailed", "StepFailed"]
    assert result.stdout.split() == kinds, result.stderr
    alone(sleeper)


IMPORTS = """
import os, sys
report = os.dup(2)
from pycontainer.runtime import join, main
enter, execve, close = join.EnterNamespaces.execute, os.execve, join.descriptors.close_others
before = set()

def patched_enter(self):
    enter(self)
    before.update(sys.modules)

def patched_execve(path, arguments, environment):
    if before:
        grown = sorted(set(sys.modules) - before)
        os.write(report, f"entered, imported {grown}\\n".encode())
    return execve(path, arguments, environment)

join.EnterNamespaces.execute = patched_enter
join.descriptors.close_others = lambda kept: close(kept | {report})
os.execve = patched_execve
main.main()
"""


@pytest.mark.parametrize("options", [[], ["--explain"], ["-u", "5:5", "--no-new-privs", "--cap", "CAP_FOWNER"]])
@pytest.mark.parametrize("program", ["ordinary", "/no/such"])
def test_nothing_is_imported_after_setns(anyone: Runtime, options: list[str], program: str) -> None:
    """It would come from the container's file system."""
    command = [sys.executable, "-P", "-c", IMPORTS, "--root", anyone.root, "exec", *options, "c", program]
    result = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    assert result.returncode == (0 if program == "ordinary" else 127), result.stderr
    assert "entered, imported []\n" in result.stderr, result.stderr[-2000:]


def test_explain(own: Runtime) -> None:
    start(own, "sleep", "1000")
    command = [*RUNTIME, "--root", own.root, "exec", "--explain", "c", "true"]
    text = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True).stderr
    user = ["CLONE_NEWUSER"] if "uidMappings" in own.config["linux"] else []
    expected = {"CLONE_NEWNS", "CLONE_NEWPID", "CLONE_NEWUTS", "CLONE_NEWIPC", "CLONE_NEWNET", "CLONE_NEWCGROUP", *user}
    [flags] = re.findall(rf"setns\(\d+<pid:{container_state(own).pid}>, (\S+)\)", text)
    assert set(flags.split("|")) == expected
    assert "CLONE_PIDFD|CLONE_INTO_CGROUP" in text and 'execve("/bin/true"' in text


# As the caller of exec, but the program's process waits a little before it executes the program.
CALLER = """
import os, sys, time
from pycontainer.kernel import interpreter
from pycontainer.kernel.operation import Journal
from pycontainer.runtime import join, spec, state

container = state.load(sys.argv[1], "c")
if container.shares_our_root() and not interpreter.is_read_only():
    interpreter.execute_read_only(sys.orig_argv, dict(os.environ))
become = join._become_program

def become_slowly(*arguments):
    time.sleep(0.005)
    become(*arguments)

join._become_program = become_slowly
program = spec.Spec(spec.read(container.bundle), container.bundle).process.with_arguments(["/bin/true"])
for _ in range(50):
    joined = join.execute(container, program, Journal())
    os.waitid(os.P_PIDFD, joined.pidfd, os.WEXITED)
    os.close(joined.pidfd)
"""


def intrude(runtime: Runtime, capabilities: list[str]) -> dict[str, int]:
    """What a container with these capabilities reached while 50 programs joined it."""
    if not (pathlib.Path(runtime.config["root"]["path"]) / "bin/intruder").exists():
        pytest.skip("there is no C compiler")
    # A copy, because a program that is executed by anybody cannot be written anyway.
    interpreter = runtime.bundle / "python"
    shutil.copy2(os.path.realpath(sys.executable), interpreter)
    status = interpreter.stat()
    sets = dict.fromkeys(("bounding", "effective", "permitted"), capabilities)
    runtime.write("intruder", str(status.st_dev), str(status.st_ino), capabilities=sets)
    container = subprocess.Popen(
        [*RUNTIME, "--root", runtime.root, "run", "-b", runtime.bundle, "c"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert container.stdout is not None and container.stdout.readline() == "ready\n"
        environment = {**os.environ, "SECRET_OF_THE_HOST": "x"}
        environment |= {"PYTHONHOME": sys.base_prefix, "PYTHONPATH": ":".join(filter(None, sys.path))}
        caller = [interpreter, "-P", "-c", CALLER, runtime.root]
        subprocess.run(caller, env=environment, stdin=subprocess.DEVNULL, timeout=60, check=True)
        container.terminate()
        output, _ = container.communicate(timeout=SECONDS)
    finally:
        container.kill()
        container.wait()
    return {name: int(number) for name, number in (line.split() for line in output.splitlines())}


def test_a_container_cannot_touch_who_joins_it(own: Runtime) -> None:
    """CVE-2016-9962, CVE-2019-5736. With its own user namespace not even with every capability."""
    names = ["CAP_DAC_OVERRIDE", "CAP_KILL", "CAP_SETUID", "CAP_MKNOD", "CAP_SYS_CHROOT"]
    if "uidMappings" in own.config["linux"]:
        names += ["CAP_SYS_PTRACE", "CAP_SYS_ADMIN", "CAP_DAC_READ_SEARCH", "CAP_CHECKPOINT_RESTORE", "CAP_PERFMON"]
    found = intrude(own, names)
    assert found.pop("seen") > 0, "the intruder never met a process before it executed its program"
    assert not any(found.values()), found


def test_the_interpreter_cannot_be_written(rootfs: pathlib.Path) -> None:
    """Not even by who may trace the host's processes: CAP_SYS_PTRACE without a user namespace."""
    runtime = make(rootfs, "host")
    try:
        found = intrude(runtime, ["CAP_DAC_OVERRIDE", "CAP_SYS_PTRACE"])
        assert found["executable"] > 0, found
        assert found["refused"] > 0 and found["written"] == 0, found
    finally:
        remove(runtime)


@pytest.mark.parametrize("kind", ["host", "user"])
def test_the_runtime_executes_itself_from_a_read_only_mount(rootfs: pathlib.Path, kind: str) -> None:
    """Where root in the container is root on the host."""
    runtime = make(rootfs, kind)
    script = """if True:
        import sys
        from pycontainer.kernel import interpreter
        from pycontainer.runtime import join, main
        def execute(*arguments, **options):
            print(interpreter.is_read_only(), flush=True)
            raise RuntimeError("enough")
        join.execute = execute
        main.main()
    """
    try:
        start(runtime, "sleep", "1000")
        command = [sys.executable, "-P", "-c", script, "--root", runtime.root, "exec", "c", "true"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
        assert result.stdout == f"{kind == 'host'}\n", result.stderr
    finally:
        remove(runtime)
