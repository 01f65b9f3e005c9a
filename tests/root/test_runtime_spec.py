"""What `spec` writes runs as it is, here and in runc; `run --keep` leaves the container; `features` needs no state."""

from __future__ import annotations

import json
import os
import pathlib
import pty
import select
import shutil
import subprocess

import pytest
from conftest import SESSION
from test_runtime import RUNTIME, SECONDS, Runtime, rootfs, runtime  # noqa: F401


@pytest.fixture
def bundle(runtime: Runtime, rootfs: pathlib.Path) -> pathlib.Path:  # noqa: F811
    # A copy, because a mount point that is missing is made in it.
    shutil.copytree(rootfs, runtime.bundle / "rootfs", symlinks=True)
    # For programs with another user's ids.
    for directory in (runtime.bundle.parent, runtime.bundle, runtime.bundle / "rootfs"):
        directory.chmod(0o755)
    return runtime.bundle


def type_into(command: list[str], typed: bytes, directory: pathlib.Path) -> tuple[int, str]:
    """Run a command on a terminal of its own; its status and all that it wrote."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, cwd=directory, start_new_session=True, close_fds=True
    )
    os.close(slave)
    seen = b""
    sent = False
    try:
        while True:
            assert select.select([master], [], [], SECONDS)[0], seen
            try:
                data = os.read(master, 4096)
            except OSError:
                # The last one who had it open has closed it.
                break
            seen += data
            if not sent and b"# " in seen:
                os.write(master, typed)
                sent = True
        return process.wait(SECONDS), seen.decode(errors="replace")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(master)


TYPED = b"""cat /proc/sys/kernel/hostname; cat /proc/self/uid_map; cat /proc/self/status
(echo x >/etc/x) 2>/dev/null || echo read-only; cat /proc/keys | grep -c . ; exit 7
"""


@pytest.mark.parametrize("rootless", [False, True])
def test_it_runs_as_it_is(runtime: Runtime, bundle: pathlib.Path, rootless: bool) -> None:  # noqa: F811
    (bundle / "rootfs/bin/grep").symlink_to("busybox")
    assert runtime("spec", *(["--rootless"] if rootless else []), cwd=bundle) == ""
    status, seen = type_into([*RUNTIME, "--root", str(runtime.root), "run", "c"], TYPED, bundle)
    assert status == 7, seen
    assert "\r\npycontainer\r\n" in seen
    assert "\r\nread-only\r\n0\r\n" in seen
    assert "CapEff:\t00000000a80425fb" in seen
    assert "NoNewPrivs:\t1" in seen
    assert ("         0          0          1\r\n" in seen) == rootless
    assert runtime("list", "-q") == ""


@pytest.mark.parametrize("rootless", [False, True])
def test_it_runs_in_runc(
    runtime: Runtime,  # noqa: F811
    bundle: pathlib.Path,
    tmp_path: pathlib.Path,
    rootless: bool,
) -> None:
    if shutil.which("runc") is None:
        pytest.skip("runc is not installed")
    runtime("spec", "-b", str(bundle), *(["--rootless"] if rootless else []))
    # because runc's cgroups are called by the container's id
    command = ["runc", "--root", str(tmp_path / "state"), "run", f"{SESSION}spec"]
    status, seen = type_into(command, b"cat /proc/sys/kernel/hostname; exit 7\n", bundle)
    assert status == 7, seen
    assert "\r\npycontainer\r\n" in seen


def test_rootless_has_the_ids_of_who_writes_it(runtime: Runtime, bundle: pathlib.Path) -> None:  # noqa: F811
    directory = bundle / "theirs"
    directory.mkdir()
    os.chown(directory, 1234, 1235)
    command = [*RUNTIME, "spec", "--rootless"]
    subprocess.run(command, cwd=directory, user=1234, group=1235, extra_groups=[], check=True)
    linux = json.loads((directory / "config.json").read_text())["linux"]
    assert [linux[name][0]["hostID"] for name in ("uidMappings", "gidMappings")] == [1234, 1235]
    (directory / "rootfs").symlink_to(bundle / "rootfs")
    status, seen = type_into([*RUNTIME, "--root", str(runtime.root), "run", "c"], TYPED, directory)
    assert status == 7, seen
    assert "         0       1234          1\r\n" in seen


def test_there_must_be_none_yet(runtime: Runtime) -> None:  # noqa: F811
    runtime("spec", "--bundle", str(runtime.bundle))
    before = (runtime.bundle / "config.json").read_bytes()
    message = runtime("spec", "--bundle", str(runtime.bundle), status=1)
    assert f"write config.json: {runtime.bundle}/config.json: file exists\nhint: remove it first" in message
    assert (runtime.bundle / "config.json").read_bytes() == before
    assert "no such file or directory" in runtime("spec", "-b", "/no/such", status=1)
    assert "expected nothing more" in runtime("spec", "x", status=1)
    assert "--bogus: unknown option" in runtime("spec", "--bogus", status=1)


class TestKeep:
    def test_it_is_there_until_delete(self, runtime: Runtime) -> None:  # noqa: F811
        runtime.write("sh", "-c", "echo out; exit 3")
        command = [*RUNTIME, "--root", runtime.root, "run", "--keep", "-b", runtime.bundle, "c"]
        result = subprocess.run(command, capture_output=True, text=True)
        assert (result.returncode, result.stdout, result.stderr) == (3, "out\n", "")
        assert (runtime.state()["status"], runtime.state()["pid"]) == ("stopped", 0)
        assert "exists" in runtime.run(status=1)
        runtime("delete", "c")
        assert runtime("list", "-q") == ""

    def test_one_whose_program_cannot_be_executed_too(self, runtime: Runtime) -> None:  # noqa: F811
        runtime.write("/no/such")
        assert "no such file" in runtime.run("c", "--keep", status=127)
        assert runtime.state()["status"] == "stopped"
        runtime("delete", "c")

    def test_one_that_cannot_be_made_is_not_there(self, runtime: Runtime) -> None:  # noqa: F811
        runtime.config["root"]["path"] = "/no/such/root"
        runtime.write("true")
        runtime.run("c", "--keep", status=1)
        assert runtime("list", "-q") == ""

    def test_detached_it_makes_no_difference(self, runtime: Runtime) -> None:  # noqa: F811
        runtime.write("true")
        runtime.run("c", "--keep", "-d")
        runtime.wait_for("stopped")
        runtime("delete", "c")


def test_features(runtime: Runtime) -> None:  # noqa: F811
    found = json.loads(runtime("features"))
    assert found["ociVersionMin"] == "1.0.0"
    assert found["linux"]["cgroup"]["v2"]
    assert "expected nothing more" in runtime("features", "x", status=1)
    assert not runtime.root.exists()


def test_the_cgroup_manager_that_is_not_listed_is_refused(runtime: Runtime) -> None:  # noqa: F811
    assert not json.loads(runtime("features"))["linux"]["cgroup"]["systemd"]
    assert "--systemd-cgroup" in runtime("--systemd-cgroup", "list", status=1)


def test_every_namespace_that_is_listed_is_made(runtime: Runtime) -> None:  # noqa: F811
    kinds = json.loads(runtime("features"))["linux"]["namespaces"]
    linux = runtime.config["linux"]
    linux["namespaces"] = [{"type": kind} for kind in kinds if os.path.exists("/proc/self/ns/time") or kind != "time"]
    linux["uidMappings"] = linux["gidMappings"] = [{"containerID": 0, "hostID": 1 << 30, "size": 65536}]
    runtime.write("ls", "-l", "/proc/self/ns")
    seen = runtime.run()
    for name in os.listdir("/proc/self/ns"):
        if not name.endswith("_for_children"):
            assert os.readlink(f"/proc/self/ns/{name}") not in seen, name
