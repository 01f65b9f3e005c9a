"""`pycontainer-runtime` on bundles that runc and this test wrote: every verb, every status, every error."""

from __future__ import annotations

import fcntl
import json
import os
import pathlib
import select
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import warm
from conftest import SESSION, TESTS, new_directory, wait_until

from pycontainer.kernel import cgroup

SECONDS = 30
RUNTIME = [sys.executable, "-IS", str(TESTS / "runtime_command.py")]
Config = dict[str, Any]


@pytest.fixture(scope="module")
def rootfs() -> Iterator[pathlib.Path]:
    """A root file system with nothing but busybox."""
    program = pathlib.Path("/bin/busybox")
    if not program.exists():
        pytest.skip("busybox is not installed")
    directory = new_directory()
    directory.chmod(0o755)
    for name in ("bin", "etc", "proc", "sys", "dev", "tmp"):
        (directory / name).mkdir()
    shutil.copy2(program, directory / "bin/busybox")
    for name in ("sh", "sleep", "true", "cat", "echo", "id", "pwd", "tty", "kill", "ls", "stty"):
        (directory / "bin" / name).symlink_to("busybox")
    yield directory
    shutil.rmtree(directory)


class Runtime:
    """Runs the runtime with a state directory of the test's own, on a bundle that the test can change."""

    def __init__(self, directory: pathlib.Path, rootfs: pathlib.Path) -> None:
        self.root = directory / "state"
        self.bundle = directory / "bundle"
        self.bundle.mkdir()
        self.log = directory / "out"
        self.config: Config = {
            "ociVersion": "1.0.2",
            "process": {"args": ["sh"], "cwd": "/", "env": ["PATH=/bin"]},
            "root": {"path": str(rootfs), "readonly": True},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
                {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "gid=5"]},
            ],
            "linux": {
                "namespaces": [{"type": kind} for kind in ("mount", "pid", "uts", "ipc", "network", "cgroup")],
                "cgroupsPath": f"/{SESSION}{directory.name}/c",
            },
        }

    def write(self, *args: str, **process: Any) -> None:
        """config.json, with this command."""
        self.config["process"].update(process)
        if args:
            self.config["process"]["args"] = list(args)
        (self.bundle / "config.json").write_text(json.dumps(self.config))

    def __call__(self, *arguments: str, status: int = 0, **keywords: Any) -> str:
        """stdout; stderr too where `status`, the expected one, is not 0."""
        words = ["--root", str(self.root), *arguments]
        # To files, because a created container keeps its caller's output open.
        with self.log.open("w+") as out, self.log.with_suffix(".err").open("w+") as err:
            if keywords:
                started = subprocess.Popen(
                    [*RUNTIME, *words], stdin=subprocess.DEVNULL, stdout=out, stderr=err, **keywords
                )
                found = started.wait(60)
            else:
                found = warm.call("runtime_command.py", words, out.fileno(), err.fileno(), 60)
            out.seek(0)
            err.seek(0)
            text, errors = out.read(), err.read()
        assert found == status, errors
        assert "Traceback" not in errors
        assert len(errors.splitlines()) <= 2, errors
        if status:
            assert errors.startswith("pycontainer-runtime: "), errors
        return text + (errors if status else "")

    def create(self, container_id: str = "c", *arguments: str, **keywords: Any) -> str:
        return self("create", "-b", str(self.bundle), *arguments, container_id, **keywords)

    def run(self, container_id: str = "c", *arguments: str, **keywords: Any) -> str:
        return self("run", "-b", str(self.bundle), *arguments, container_id, **keywords)

    def state(self, container_id: str = "c") -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self("state", container_id))
        return found

    def wait_for(self, status: str, container_id: str = "c") -> dict[str, Any]:
        wait_until(lambda: self.state(container_id)["status"] == status, message=f"{container_id} was not {status}")
        return self.state(container_id)


@pytest.fixture
def runtime(rootfs: pathlib.Path) -> Iterator[Runtime]:
    directory = new_directory()
    made = Runtime(directory, rootfs)
    yield made
    left = os.listdir(made.root) if made.root.exists() else []
    for name in left:
        made("delete", "--force", name)
    shutil.rmtree(directory)
    assert left == [], "every test deletes its containers"
    hierarchy = cgroup.find_hierarchy()
    assert not hierarchy or not os.path.exists(f"{hierarchy.mountpoint}/{SESSION}{directory.name}"), (
        "the parent goes too"
    )


class TestLife:
    def test_from_create_to_delete(self, runtime: Runtime) -> None:
        runtime.write("sh", "-c", "trap 'exit 5' TERM; echo started; while :; do sleep 0.05; done")
        runtime.create()
        state = runtime.state()
        assert state["ociVersion"].startswith("1.")
        assert (state["id"], state["status"], state["bundle"]) == ("c", "created", str(runtime.bundle))
        assert state["pid"] > 0
        assert "start" not in runtime.log.read_text()
        runtime("start", "c")
        assert runtime.state()["status"] == "running"
        assert runtime.state()["pid"] == state["pid"]
        assert runtime("list", "-q") == "c\n"
        [row] = json.loads(runtime("list", "-f", "json"))
        assert (row["id"], row["status"]) == ("c", "running")
        assert "running" in runtime("list").splitlines()[1]
        runtime("kill", "c", "KILL")
        stopped = runtime.wait_for("stopped")
        assert stopped["pid"] == 0
        runtime("delete", "c")
        assert runtime("list", "-q") == ""
        assert not list(runtime.root.iterdir())

    def test_run_waits_and_has_the_programs_status(self, runtime: Runtime) -> None:
        runtime.write("sh", "-c", "echo out; echo err >&2; exit 42")
        process = subprocess.run(
            [*RUNTIME, "--root", runtime.root, "run", "-b", runtime.bundle, "c"], capture_output=True, text=True
        )
        assert (process.returncode, process.stdout, process.stderr) == (42, "out\n", "err\n")
        assert not list(runtime.root.iterdir())

    def test_run_from_the_bundle_itself(self, runtime: Runtime) -> None:
        runtime.write("echo", "here")
        assert runtime("run", "c", cwd=runtime.bundle) == "here\n"

    def test_run_detached(self, runtime: Runtime, tmp_path: pathlib.Path) -> None:
        runtime.write("sleep", "1000")
        runtime.run("c", "-d", "--pid-file", str(tmp_path / "pid"))
        assert runtime.state()["status"] == "running"
        assert int((tmp_path / "pid").read_text()) == runtime.state()["pid"]
        runtime("delete", "-f", "c")

    def test_pid_file(self, runtime: Runtime, tmp_path: pathlib.Path) -> None:
        runtime.write("true")
        runtime.create("c", "--pid-file", str(tmp_path / "pid"))
        assert int((tmp_path / "pid").read_text()) == runtime.state()["pid"]
        assert os.listdir(tmp_path) == ["pid"]
        runtime("delete", "--force", "c")
        runtime.create("c", "--pid-file", str(tmp_path / "no/such/pid"), status=1)
        assert runtime("list", "-q") == "", "it is undone"

    def test_a_signal_by_name_and_number(self, runtime: Runtime) -> None:
        for signal_name in ("TERM", "SIGTERM", "15"):
            runtime.write("sh", "-c", "trap 'exit 5' TERM; while :; do sleep 0.05; done")
            runtime.create()
            runtime("start", "c")

            def has_ended(signal_name: str = signal_name) -> bool:
                # Once more each time, because until the trap is set, after execve, the kernel drops the signal.
                try:
                    runtime("kill", "c", signal_name)
                except AssertionError:
                    assert runtime.state()["status"] == "stopped"
                return runtime.state()["status"] == "stopped"

            wait_until(has_ended)
            runtime("delete", "c")

    def test_kill_all_reaches_every_process(self, runtime: Runtime) -> None:
        runtime.write("sh", "-c", "sleep 1000 & exec sleep 1000")
        runtime.create()
        runtime("start", "c")
        runtime("kill", "--all", "c", "9")
        runtime.wait_for("stopped")
        runtime("delete", "c")

    def test_a_created_container_can_be_killed(self, runtime: Runtime) -> None:
        runtime.write("true")
        runtime.create()
        runtime("kill", "c", "KILL")
        runtime.wait_for("stopped")
        runtime("delete", "c")

    def test_two_at_once(self, runtime: Runtime) -> None:
        runtime.write("sleep", "1000")
        runtime.create("a")
        runtime.config["linux"]["cgroupsPath"] += "2"
        runtime.write()
        runtime.create("b")
        assert runtime("list", "-q") == "a\nb\n"
        for name in ("a", "b"):
            runtime("delete", "--force", name)


class TestConfig:
    def test_user_directory_environment_and_descriptors(self, runtime: Runtime) -> None:
        script = """
        id -u; id -g; pwd; echo $A; umask; cat /proc/1/oom_score_adj
        sleep 1000 & while [ "$(cat /proc/$!/comm)" != sleep ]; do :; done; ls /proc/$!/fd; kill $!
        """
        runtime.write(
            "sh", "-c", script,
            user={"uid": 5, "gid": 6, "umask": 0o27}, cwd="/tmp", env=["PATH=/bin", "A=b c"], oomScoreAdj=100,
        )  # fmt: skip
        found = runtime.run().splitlines()
        assert found == ["5", "6", "/tmp", "b c", "0027", "100", "0", "1", "2"]

    def test_id_maps_hostname_sysctl_and_masks(self, runtime: Runtime, rootfs: pathlib.Path) -> None:
        linux = runtime.config["linux"]
        linux["namespaces"].append({"type": "user"})
        linux["uidMappings"] = linux["gidMappings"] = [{"containerID": 0, "hostID": 1 << 30, "size": 65536}]
        linux["sysctl"] = {"net.ipv4.ip_forward": "1"}
        linux["maskedPaths"] = ["/proc/version", "/no/such/path"]
        linux["readonlyPaths"] = ["/proc/sys"]
        runtime.config["hostname"] = "box"
        script = """
        cat /proc/self/uid_map; cat /proc/sys/kernel/hostname /proc/sys/net/ipv4/ip_forward; cat /proc/version
        (echo 0 > /proc/sys/net/ipv4/ip_forward) 2>/dev/null || echo refused
        """
        runtime.write("sh", "-c", script)
        found = runtime.run().split()
        assert found == ["0", str(1 << 30), "65536", "box", "1", "refused"]

    def test_a_namespace_is_joined(self, runtime: Runtime) -> None:
        runtime.config["linux"]["namespaces"] = [
            {"type": "mount"}, {"type": "pid"}, {"type": "network", "path": "/proc/self/ns/net"},
        ]  # fmt: skip
        runtime.write("sh", "-c", "ls -l /proc/self/ns/net")
        assert os.readlink("/proc/self/ns/net") in runtime.run()

    def test_rlimits_and_capabilities(self, runtime: Runtime) -> None:
        runtime.write(
            "sh", "-c", "ulimit -n; cat /proc/self/status",
            rlimits=[{"type": "RLIMIT_NOFILE", "soft": 40, "hard": 50}], noNewPrivileges=True,
            capabilities={"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"]},
        )  # fmt: skip
        found = runtime.run()
        assert found.startswith("40\n")
        for line in ("CapEff:\t0000000000000020", "CapBnd:\t0000000000000020", "NoNewPrivs:\t1"):
            assert line in found

    def test_annotations_are_in_the_state(self, runtime: Runtime) -> None:
        runtime.config["annotations"] = {"a": "b"}
        runtime.write("true")
        runtime.create()
        assert runtime.state()["annotations"] == {"a": "b"}
        runtime("delete", "--force", "c")


class TestErrors:
    def test_no_bundle(self, runtime: Runtime) -> None:
        assert "config.json" in runtime.create(status=1)
        assert "no such file" in runtime("create", "-b", "/no/such/bundle", "c", status=1)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "not JSON"),
            ("{", "not JSON"),
            ("[]", "must be an object"),
            ('{"ociVersion": "3.0"}', "ociVersion"),
            ('{"ociVersion": "1.0.2", "process": {"args": "sh"}}', "process.args"),
            ('{"ociVersion": "1.0.2", "process": {"args": ["sh"], "user": {"uid": "0"}}}', "process.user.uid"),
            ('{"ociVersion": "1.0.2", "process": {"args": ["sh"]}}', "mount namespace"),
        ],
    )
    def test_bad_config(self, runtime: Runtime, text: str, message: str) -> None:
        (runtime.bundle / "config.json").write_text(text)
        assert message in runtime.create(status=1)
        assert runtime("list", "-q") == ""

    def test_wrong_types_in_resources_are_no_missing_limits(self, runtime: Runtime) -> None:
        runtime.config["linux"]["resources"] = {"memory": {"limit": "64m"}}
        runtime.write("true")
        assert "linux.resources.memory.limit" in runtime.create(status=1)

    def test_no_root_file_system(self, runtime: Runtime) -> None:
        runtime.config["root"]["path"] = "/no/such/root"
        runtime.write("true")
        assert "/no/such/root" in runtime.create(status=1)
        assert runtime("list", "-q") == ""

    def test_a_mount_that_fails_is_named_and_undone(self, runtime: Runtime) -> None:
        runtime.config["mounts"].append({"destination": "/tmp", "type": "nosuchfs", "source": "x"})
        runtime.write("true")
        message = runtime.create(status=1)
        assert "nosuchfs" in message
        assert "/tmp" in message
        assert runtime("list", "-q") == ""

    def test_an_id_that_is_taken(self, runtime: Runtime) -> None:
        runtime.write("true")
        runtime.create()
        assert "exists" in runtime.create(status=1)
        assert runtime.state()["status"] == "created", "the first one is as it was"
        runtime("delete", "--force", "c")

    @pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "a b", "x" * 200])
    def test_an_id_that_is_none(self, runtime: Runtime, name: str) -> None:
        runtime.write("true")
        runtime.create(name, status=1)
        runtime("state", name, status=1)

    @pytest.mark.parametrize("verb", ["state", "start", "kill", "delete"])
    def test_an_unknown_id(self, runtime: Runtime, verb: str) -> None:
        assert "container does not exist" in runtime(verb, "nosuch", status=1)

    def test_delete_force_of_an_unknown_id_is_fine(self, runtime: Runtime) -> None:
        runtime("delete", "--force", "nosuch")

    def test_what_the_status_does_not_allow(self, runtime: Runtime) -> None:
        runtime.write("sleep", "1000")
        runtime.create()
        assert "created" in runtime("delete", "c", status=1)
        runtime("start", "c")
        assert "running" in runtime("start", "c", status=1)
        assert "running" in runtime("delete", "c", status=1)
        assert runtime.state()["status"] == "running"
        assert "BOGUS" in runtime("kill", "c", "BOGUS", status=1)
        runtime("kill", "c", "9")
        runtime.wait_for("stopped")
        assert "not running" in runtime("kill", "c", status=1)
        assert "stopped" in runtime("start", "c", status=1)
        runtime("delete", "c")
        assert "container does not exist" in runtime("delete", "c", status=1)

    @pytest.mark.parametrize(
        ("program", "status", "message"),
        [("/no/such", 127, "no such file"), ("/etc", 126, "permission denied")],
    )
    def test_start_reports_that_the_program_cannot_be_executed(
        self, runtime: Runtime, program: str, status: int, message: str
    ) -> None:
        runtime.write(program)
        runtime.create()
        assert message in runtime("start", "c", status=status)
        runtime.wait_for("stopped")
        runtime("delete", "c")
        assert message in runtime.run(status=status)
        assert runtime("list", "-q") == ""

    def test_create_reports_that_the_program_is_nowhere(self, runtime: Runtime) -> None:
        """As runc, so that whoever calls it can tell it from other failures to start."""
        runtime.write("nosuch")
        assert "nosuch: executable file not found in $PATH" in runtime.create(status=127)
        assert runtime("list", "-q") == ""
        assert "not found" in runtime.run(status=127)
        # In a PATH with directories that are not absolute it is the program's own to look.
        runtime.write("nosuch", env=["PATH=bin"])
        runtime.create()
        assert "not found" in runtime("start", "c", status=127)
        runtime("delete", "c")

    @pytest.mark.parametrize(
        "arguments",
        [["bogus"], ["create"], ["create", "a", "b"], ["create", "--bogus", "a"], ["create", "-b"], ["start"],
         ["delete", "--force=yes", "a"], ["--bogus", "list"], ["--systemd-cgroup", "list"]],
    )  # fmt: skip
    def test_usage(self, runtime: Runtime, arguments: list[str]) -> None:
        runtime(*arguments, status=1)


class TestTerminal:
    def receive(self, listener: socket.socket) -> int:
        listener.settimeout(SECONDS)
        connection, _ = listener.accept()
        with connection:
            _, descriptors, _, _ = socket.recv_fds(connection, 100, 1)
        return descriptors[0]

    def test_through_a_console_socket(self, runtime: Runtime, tmp_path: pathlib.Path) -> None:
        path = str(tmp_path / "console")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(path)
            listener.listen()
            runtime.write("sh", "-c", "tty; stty size", terminal=True, consoleSize={"height": 33, "width": 77})
            runtime.create("c", "--console-socket", path)
            master = self.receive(listener)
        try:
            runtime("start", "c")
            seen = b""
            while b"33 77" not in seen:
                assert select.select([master], [], [], SECONDS)[0], seen
                seen += os.read(master, 1000)
            assert seen.startswith(b"/dev/pts/0\r\n")
        finally:
            os.close(master)
        runtime.wait_for("stopped")
        runtime("delete", "c")

    def test_without_one_it_is_refused(self, runtime: Runtime) -> None:
        runtime.write("tty", terminal=True)
        assert "--console-socket" in runtime.create(status=1)
        assert "/no/such/socket" in runtime.create("c", "--console-socket", "/no/such/socket", status=1)
        assert runtime("list", "-q") == ""


def test_a_bundle_that_runc_wrote(runtime: Runtime, rootfs: pathlib.Path) -> None:
    if shutil.which("runc") is None:
        pytest.skip("runc is not installed")
    subprocess.run(["runc", "spec"], cwd=runtime.bundle, check=True)
    (runtime.bundle / "rootfs").symlink_to(rootfs)
    config = json.loads((runtime.bundle / "config.json").read_text())
    config["linux"]["cgroupsPath"] = runtime.config["linux"]["cgroupsPath"]
    config["process"]["terminal"] = False
    config["process"]["args"] = ["sh", "-c", "id -u; cat /proc/sys/kernel/hostname; ls /proc/1/fd; echo x > /etc/x"]
    (runtime.bundle / "config.json").write_text(json.dumps(config))
    process = subprocess.run(
        [*RUNTIME, "--root", runtime.root, "run", "-b", runtime.bundle, "c"], capture_output=True, text=True
    )
    assert process.stdout.split() == ["0", "runc", "0", "1", "2"], process.stderr
    assert "Read-only file system" in process.stderr
    assert process.returncode == 1


def test_nothing_stays_of_a_create_that_was_killed_half_way(runtime: Runtime) -> None:
    """delete --force takes away whatever the state directory says of it."""
    runtime.write("true")
    runtime.root.mkdir(mode=0o700)
    (runtime.root / "half").mkdir()
    assert runtime.state("half")["status"] == "stopped"
    runtime("delete", "--force", "half")
    assert runtime("list", "-q") == ""


DRIVER = """
import os, sys
report = os.dup(2)
from pycontainer.runtime import main
from pycontainer.runtime.operations import filesystem
pivot, execve = filesystem.PivotRoot.execute, os.execve
before = set()

def patched_pivot(self):
    pivot(self)
    before.update(sys.modules)

def patched_execve(path, arguments, environment):
    grown = sorted(set(sys.modules) - before)
    os.write(report, f"pivoted {len(before) > 0}, imported {grown}\\n".encode())
    return execve(path, arguments, environment)

filesystem.PivotRoot.execute = patched_pivot
os.execve = patched_execve
main.main()
"""


@pytest.mark.parametrize("explain", [[], ["--explain"]])
@pytest.mark.parametrize("program", ["true", "nosuch"])
def test_nothing_is_imported_between_pivot_root_and_execve(runtime: Runtime, explain: list[str], program: str) -> None:
    """It would come from the container's file system."""
    linux = runtime.config["linux"]
    linux["namespaces"].append({"type": "user"})
    linux["uidMappings"] = linux["gidMappings"] = [{"containerID": 0, "hostID": 1 << 30, "size": 65536}]
    linux["maskedPaths"], linux["readonlyPaths"] = ["/proc/kcore", "/proc/acpi"], ["/proc/sys"]
    linux["sysctl"] = {"net.ipv4.ip_forward": "1"}
    linux["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
    runtime.config["hostname"] = "box"
    names = ["CAP_CHOWN", "CAP_KILL"]
    capabilities = {"bounding": names, "permitted": names, "effective": names, "inheritable": [], "ambient": []}
    runtime.write(
        f"/bin/{program}", capabilities=capabilities, noNewPrivileges=True, user={"uid": 1, "gid": 1},
        rlimits=[{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}],
    )  # fmt: skip
    result = subprocess.run(
        [sys.executable, "-P", "-c", DRIVER, "--root", runtime.root, "run", *explain, "-b", runtime.bundle, "c"],
        capture_output=True,
        text=True,
    )
    assert result.returncode == (0 if program == "true" else 127), result.stderr
    assert "pivoted True, imported []\n" in result.stderr, result.stderr[-2000:]


def test_descriptors_of_the_caller_do_not_reach_the_program(runtime: Runtime) -> None:
    descriptor = os.open("/etc/passwd", os.O_RDONLY)
    high = fcntl.fcntl(descriptor, fcntl.F_DUPFD, 300)
    try:
        runtime.write("ls", "/proc/1/fd")
        # ls has the directory open besides.
        assert runtime.run(pass_fds=[descriptor, high]).split() == ["0", "1", "2", "3"]
    finally:
        os.close(descriptor)
        os.close(high)
