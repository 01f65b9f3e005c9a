"""`pycontainer-runtime` as the runtime of podman, buildah and containerd."""

from __future__ import annotations

import json
import os
import pathlib
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from conftest import REPOSITORY, SESSION, new_directory, wait_until
from test_runtime import Runtime, rootfs, runtime  # noqa: F401

# What a program may not ask for on every machine: no seccomp, and no limits, whose controllers may be on cgroup v1.
UNLIMITED = ["--security-opt", "seccomp=unconfined", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"]

Caller = Callable[..., subprocess.CompletedProcess]


def needs(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")


def call(*words: str | os.PathLike[str], status: int = 0, **options: object) -> str:
    """stdout of a command that ends with this status."""
    result = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, **options)  # type: ignore[call-overload]
    assert result.returncode == status, f"{result.stdout}\n{result.stderr}"
    text: str = result.stdout
    return text


def working_in(place: pathlib.Path) -> list[str]:
    """The processes whose command line names a directory."""
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            if str(place).encode() in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
        except OSError:
            continue
    return found


def remove_cgroups(name: str) -> None:
    """What podman has made for its monitors, in every hierarchy, and leaves there."""
    with open("/proc/self/mountinfo") as file:
        tops = [line.split()[4] for line in file if " - cgroup" in line]
    for top in tops:
        for directory, _, _ in os.walk(f"{top}/{name}", topdown=False):
            os.rmdir(directory)


@pytest.fixture
def place() -> Iterator[pathlib.Path]:
    """A directory for what they store. Not pytest's own, because the names of sockets in it would be too long."""
    directory = new_directory()
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def program(place: pathlib.Path) -> pathlib.Path:
    """The runtime as one executable file, as all of them want it."""
    path = place / "pycontainer-runtime"
    path.write_text(
        f"#!{sys.executable} -P\nimport sys\nsys.path.insert(0, {str(REPOSITORY)!r})\n"
        # podman and buildah leave the place for the state to it.
        f"if '--root' not in sys.argv: sys.argv[1:1] = ['--root', '{place}/state']\n"
        "from pycontainer.runtime.main import main\nmain()\n"
    )
    path.chmod(0o755)
    return path


class TestPodman:
    @pytest.fixture
    def podman(self, place: pathlib.Path, program: pathlib.Path, busybox_archive: pathlib.Path) -> Iterator[list[str]]:
        needs("podman")
        words = [
            "podman", "--root", f"{place}/root", "--runroot", f"{place}/run", "--tmpdir", f"{place}/tmp",
            "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "none",
            "--runtime", str(program),
        ]  # fmt: skip
        call(*words, "load", "-q", "-i", busybox_archive)
        yield words
        call(*words, "rm", "-f", "-a", "-t", "0")
        # What tidies up behind a container goes on by itself.
        wait_until(lambda: not working_in(place))
        remove_cgroups(f"{SESSION}podman")
        # Of vfs, what it has mounted on itself.
        subprocess.run(["umount", f"{place}/root/vfs"], check=False, capture_output=True)

    OPTIONS = (*UNLIMITED, "--pids-limit", "0", "--network", "none", "--cgroup-parent", f"/{SESSION}podman")

    def test_run(self, podman: list[str]) -> None:
        assert call(*podman, "run", "--rm", *self.OPTIONS, "busybox", "echo", "hello") == "hello\n"
        call(*podman, "run", "--rm", *self.OPTIONS, "busybox", "sh", "-c", "exit 7", status=7)
        call(*podman, "run", "--rm", *self.OPTIONS, "busybox", "no-such-program", status=127)

    def test_detached_exec_stop(self, podman: list[str]) -> None:
        call(*podman, "run", "-d", "--name", "c", *self.OPTIONS, "busybox", "sleep", "1000")
        assert call(*podman, "exec", "c", "cat", "/proc/1/comm") == "sleep\n"
        call(*podman, "exec", "c", "sh", "-c", "exit 7", status=7)
        call(*podman, "kill", "-s", "KILL", "c")
        assert call(*podman, "wait", "c") == "137\n"
        call(*podman, "rm", "c")


class TestBuildah:
    def test_run(self, place: pathlib.Path, program: pathlib.Path, busybox_archive: pathlib.Path) -> None:
        needs("buildah")
        words = ["buildah", "--root", f"{place}/root", "--runroot", f"{place}/run", "--storage-driver", "vfs"]
        image = call(*words, "pull", "-q", f"docker-archive:{busybox_archive}").strip()
        container = call(*words, "from", "--pull-never", *UNLIMITED, image).strip()
        run = [*words, "run", "--runtime", program, "--isolation", "oci", "--network", "none", container, "--"]
        try:
            assert call(*run, "sh", "-c", "echo hello >/made; cat /made") == "hello\n"
            call(*run, "sh", "-c", "exit 7", status=7)
            assert call(*run, "cat", "/made") == "hello\n"
        finally:
            call(*words, "rm", container)
            subprocess.run(["umount", f"{place}/root/vfs"], check=False, capture_output=True)


class TestContainerd:
    @pytest.fixture
    def ctr(self, place: pathlib.Path) -> Iterator[list[str]]:
        """The client of a containerd of the test's own."""
        needs("containerd")
        needs("ctr")
        (place / "config.toml").write_text(
            f'version = 2\nroot = "{place}/root"\nstate = "{place}/state"\n'
            f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "{place}/sock"\n'
        )
        words = ["ctr", "-a", f"{place}/sock", "-n", f"test{secrets.token_hex(3)}"]
        with (place / "log").open("w") as log:
            daemon = subprocess.Popen(["containerd", "--config", place / "config.toml"], stdout=log, stderr=log)
        try:
            wait_until(lambda: subprocess.run([*words, "version"], capture_output=True, check=False).returncode == 0)
            yield words
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(30)

    @pytest.fixture
    def config(self, runtime: Runtime, place: pathlib.Path) -> Callable[..., pathlib.Path]:  # noqa: F811
        def write(*args: str, terminal: bool = False) -> pathlib.Path:
            runtime.write(*args, terminal=terminal)
            path = place / "config.json"
            path.write_text(json.dumps(runtime.config))
            return path

        return write

    def test_run(self, ctr: list[str], config: Callable[..., pathlib.Path], program: pathlib.Path) -> None:
        run = [*ctr, "run", "--rm", "--runc-binary", program, "--config"]
        assert call(*run, config("echo", "hello"), "a") == "hello\n"
        call(*run, config("sh", "-c", "exit 7"), "b", status=7)
        assert "not found" in subprocess.run(
            [*run, config("no-such-program"), "c"], capture_output=True, text=True, check=False, timeout=60
        ).stderr  # fmt: skip

    def test_a_terminal(self, ctr: list[str], config: Callable[..., pathlib.Path], program: pathlib.Path) -> None:
        words = [*ctr, "run", "--rm", "-t", "--runc-binary", program, "--config"]
        line = shlex.join(map(str, [*words, config("tty", terminal=True), "t"]))
        assert "/dev/pts/0" in call("script", "-qec", line, "/dev/null")

    def test_detached_exec_kill(
        self, ctr: list[str], config: Callable[..., pathlib.Path], program: pathlib.Path
    ) -> None:
        call(*ctr, "run", "-d", "--runc-binary", program, "--config", config("sleep", "1000"), "d")
        try:
            assert call(*ctr, "task", "exec", "--exec-id", "e", "d", "echo", "hello") == "hello\n"
            call(*ctr, "task", "pause", "d", status=1)
        finally:
            call(*ctr, "task", "kill", "-s", "9", "d")
            wait_until(lambda: "STOPPED" in call(*ctr, "task", "ls"))
            subprocess.run([*ctr, "task", "rm", "d"], check=False, capture_output=True)
            call(*ctr, "container", "rm", "d")
