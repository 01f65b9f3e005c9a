"""`pycontainer-runtime`: what belongs to a container, and what only looks as if it did."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import time

import pytest
from conftest import wait_until
from test_runtime import RUNTIME, SECONDS, Runtime, rootfs, runtime  # noqa: F401

from pycontainer.kernel import cgroup
from pycontainer.runtime import state


def other_root(runtime: Runtime) -> Runtime:  # noqa: F811
    """The same bundle, with state elsewhere."""
    other = object.__new__(Runtime)
    other.__dict__.update(runtime.__dict__)
    other.root = runtime.root.with_name("other")
    return other


def group(runtime: Runtime) -> pathlib.Path:  # noqa: F811
    hierarchy = cgroup.find_hierarchy()
    assert hierarchy
    return pathlib.Path(hierarchy.mountpoint + runtime.config["linux"]["cgroupsPath"])


class TestCgroup:
    def test_a_create_that_fails_leaves_anothers_alone(self, runtime: Runtime) -> None:  # noqa: F811
        runtime.write("sleep", "1000")
        runtime.run("c", "-d")
        try:
            other = other_root(runtime)
            assert "not empty" in other.create("d", status=1)
            assert other("list", "-q") == ""
            assert runtime.state()["status"] == "running"
            assert group(runtime).is_dir()
        finally:
            runtime("delete", "--force", "c")

    def test_one_of_the_same_name_that_is_not_its_own(self, runtime: Runtime) -> None:  # noqa: F811
        """It ended, its cgroup was removed and made anew for another one: `delete` of the first is not the second's."""
        runtime.write("true")
        runtime.run("c", "-d")
        runtime.wait_for("stopped")
        other = other_root(runtime)
        runtime.write("sleep", "1000")
        other.run("d", "-d")
        try:
            runtime("delete", "c")
            assert other.state("d")["status"] == "running"
            assert group(runtime).is_dir()
        finally:
            other("delete", "--force", "d")
        assert not group(runtime).exists()

    def test_one_that_is_empty_is_taken(self, runtime: Runtime) -> None:  # noqa: F811
        runtime.write("true")
        group(runtime).mkdir(parents=True)
        try:
            assert runtime.run("c") == ""
            assert not group(runtime).exists()
            assert group(runtime).parent.is_dir(), "somebody else has made it"
        finally:
            group(runtime).parent.rmdir()

    def test_parents_that_were_made_for_it_go_with_it(self, runtime: Runtime) -> None:  # noqa: F811
        top = group(runtime).parent
        runtime.config["linux"]["cgroupsPath"] = f"/{top.name}/a/b/c"
        runtime.write("sleep", "1000")
        runtime.run("c", "-d")
        runtime.config["linux"]["cgroupsPath"] = f"/{top.name}/a/d"
        runtime.write("sleep", "1000")
        runtime.run("d", "-d")
        runtime("delete", "--force", "c")
        assert not (top / "a/b").exists() and (top / "a/d").is_dir()
        runtime("delete", "--force", "d")
        assert not top.exists()

    def test_the_same_id_in_two_roots(self, runtime: Runtime) -> None:  # noqa: F811
        del runtime.config["linux"]["cgroupsPath"]
        runtime.write("sleep", "1000")
        other = other_root(runtime)
        runtime.run("c", "-d")
        other.run("c", "-d")
        runtime("delete", "--force", "c")
        assert other.state()["status"] == "running"
        other("delete", "--force", "c")
        hierarchy = cgroup.find_hierarchy()
        assert hierarchy
        assert not list(pathlib.Path(hierarchy.mountpoint).glob("pycontainer-runtime-*"))


class TestCreating:
    """A `create` that is stopped in the middle."""

    @pytest.fixture
    def creator(self, runtime: Runtime) -> subprocess.Popen:  # noqa: F811
        runtime.write("sleep", "1000")
        process = subprocess.Popen([*RUNTIME, "--root", runtime.root, "create", "-b", runtime.bundle, "c"])
        directory = runtime.root / "c"
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            if directory.is_dir():
                process.send_signal(signal.SIGSTOP)
                break
        return process

    def test_it_says_so_and_is_not_deleted(self, runtime: Runtime, creator: subprocess.Popen) -> None:  # noqa: F811
        state = runtime.state()
        if state["status"] != "creating":
            creator.send_signal(signal.SIGCONT)
            creator.wait(SECONDS)
            runtime("delete", "--force", "c")
            pytest.skip("it was faster than the test")
        assert "pid" not in state or state["pid"] == 0
        assert "creating" in runtime("list")
        assert "creating" in runtime("delete", "c", status=1)
        assert "creating" in runtime("start", "c", status=1)
        assert "not running" in runtime("kill", "c", status=1)
        creator.send_signal(signal.SIGCONT)
        assert creator.wait(SECONDS) == 0
        assert runtime.state()["status"] == "created"
        runtime("delete", "--force", "c")

    def test_by_force_it_goes(self, runtime: Runtime, creator: subprocess.Popen) -> None:  # noqa: F811
        runtime("delete", "--force", "c")
        creator.send_signal(signal.SIGCONT)
        creator.wait(SECONDS)
        # Where it had not come far it goes on, or fails: nothing of it may stay either way.
        wait_until(lambda: runtime("list", "-q") in ("", "c\n"))
        runtime("delete", "--force", "c")
        assert runtime("list", "-q") == ""
        assert not group(runtime).exists()

    def test_a_killed_creator_leaves_one_that_is_stopped(self, runtime: Runtime, creator: subprocess.Popen) -> None:  # noqa: F811
        creator.kill()
        creator.wait()
        wait_until(lambda: runtime.state()["status"] in ("stopped", "created"))
        runtime("delete", "--force", "c")
        assert not group(runtime).exists()
        # Killed between the calls that make the parent and mark it, the creator has left one that nobody may remove.
        with contextlib.suppress(OSError):
            group(runtime).parent.rmdir()


@pytest.mark.parametrize("is_empty", [True, False])
def test_a_cgroup_whose_creator_was_killed_before_it_could_say_so(runtime: Runtime, is_empty: bool) -> None:  # noqa: F811
    """An empty one is its own, for otherwise nobody would ever remove it; one in use is somebody else's."""
    place = group(runtime)
    runtime.root.mkdir(parents=True)
    reserved = state.reserve(str(runtime.root), "c", str(runtime.bundle), {}, str(place))
    reserved.pid, reserved.start_time = 1, 0
    reserved.save()
    (place if is_empty else place / "in use").mkdir(parents=True)
    try:
        runtime("delete", "c")
        assert place.exists() is not is_empty
    finally:
        for left in (place / "in use", place, place.parent):
            if left.exists():
                left.rmdir()


def test_what_a_killed_create_has_left_is_cleared(runtime: Runtime) -> None:  # noqa: F811
    """It was killed before the directory had its name; another that lives is left alone."""
    runtime.write("true")
    runtime.root.mkdir(parents=True)
    with open("/proc/self/stat") as file:
        start_time = file.read().rpartition(")")[2].split()[19]
    dead, alive = runtime.root / f".{os.getpid()}-1-ab", runtime.root / f".{os.getpid()}-{start_time}-cd"
    for place in (dead, alive):
        place.mkdir()
        (place / "state.json.new").touch()
    assert runtime("list", "-q") == ""
    runtime.run("c")
    assert not dead.exists() and alive.is_dir()
    (alive / "state.json.new").unlink()
    alive.rmdir()


def test_who_reads_what_create_says_comes_to_an_end(runtime: Runtime, tmp_path: pathlib.Path) -> None:  # noqa: F811
    """With a terminal the program has no use for the caller's output, and $(… create …) waits for its end."""
    runtime.write("sleep", "1000", terminal=True)
    path = tmp_path / "console.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        command = [*RUNTIME, "--root", runtime.root, "create", "-b", runtime.bundle, "--console-socket", path, "c"]
        result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS)
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")
    assert runtime.state()["status"] == "created"
    runtime("delete", "--force", "c")


class TestMounts:
    def mounts(self, runtime: Runtime) -> dict[str, str]:  # noqa: F811
        """Mount point -> options."""
        lines = runtime.run("c").splitlines()
        return {line.split()[4]: line.split()[5] for line in lines}

    def test_dev_read_only(self, runtime: Runtime) -> None:  # noqa: F811
        runtime.config["mounts"][1]["options"] = ["mode=755", "ro", "nosuid"]
        runtime.write("cat", "/proc/self/mountinfo")
        found = self.mounts(runtime)
        assert found["/dev"].startswith("ro,nosuid") and found["/dev/pts"].startswith("rw")
        runtime.write(
            "sh", "-c", "echo x > /dev/null && ls /dev/fd > /dev/null && ! echo > /dev/x 2>/dev/null && echo ok"
        )
        assert runtime.run("c") == "ok\n"

    @pytest.mark.parametrize("options", [["rbind", "bind"], ["bind", "rbind"], ["rbind"]])
    def test_a_recursive_bind(self, runtime: Runtime, tmp_path: pathlib.Path, options: list[str]) -> None:  # noqa: F811
        (tmp_path / "below").mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "none", tmp_path / "below"], check=True)
        try:
            runtime.config["mounts"].append({"destination": "/tmp", "source": str(tmp_path), "options": options})
            runtime.write("cat", "/proc/self/mountinfo")
            assert "/tmp/below" in self.mounts(runtime)
        finally:
            subprocess.run(["umount", tmp_path / "below"], check=True)

    def test_trees_are_in_the_order_of_the_configuration(self, runtime: Runtime, tmp_path: pathlib.Path) -> None:  # noqa: F811
        for name in ("tree/one", "tree/two", "c", "a", "b"):
            (tmp_path / name).mkdir(parents=True)
        for name in ("two", "one"):
            subprocess.run(["mount", "-t", "tmpfs", "none", tmp_path / "tree" / name], check=True)
        try:
            entries = [("/tmp/c", "c"), ("/tmp/tree", "tree"), ("/tmp/b", "b"), ("/tmp/a", "a")]
            memory = {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}
            runtime.config["mounts"] += [memory] + [
                {"destination": target, "source": str(tmp_path / name), "options": ["rbind"]}
                for target, name in entries
            ]
            runtime.write("cat", "/proc/self/mountinfo")
            found = [target for target in self.mounts(runtime) if target.startswith("/tmp/")]
        finally:
            for name in ("two", "one"):
                subprocess.run(["umount", tmp_path / "tree" / name], check=True)
        assert found == ["/tmp/c", "/tmp/tree", "/tmp/tree/two", "/tmp/tree/one", "/tmp/b", "/tmp/a"]


class TestHome:
    @pytest.mark.parametrize(
        ("uid", "env", "expected"),
        [(0, [], "/root"), (1000, [], "/home/bob"), (77, [], "/"), (1000, ["HOME=/given"], "/given"), (5, [], "/")],
    )
    def test_run_and_exec(
        self,
        runtime: Runtime,  # noqa: F811
        tmp_path: pathlib.Path,
        uid: int,
        env: list[str],
        expected: str,
    ) -> None:
        passwd = tmp_path / "passwd"
        passwd.write_text(
            "root:x:0:0:root:/root:/bin/sh\nbob:x:1000:1000::/home/bob:/bin/sh\nnone:x:5:5:::\nshort:x:77\n"
        )
        runtime.config["mounts"].append({"destination": "/etc", "source": str(tmp_path), "options": ["bind", "ro"]})
        tmp_path.chmod(0o755)
        runtime.write("sh", "-c", "echo $HOME", user={"uid": uid, "gid": 0}, env=["PATH=/bin", *env])
        assert runtime.run("c") == f"{expected}\n"
        runtime.write("sleep", "1000", env=["PATH=/bin"])
        runtime.run("c", "-d")
        program = {
            "args": ["sh", "-c", "echo $HOME"],
            "cwd": "/",
            "env": ["PATH=/bin", *env],
            "user": {"uid": uid, "gid": 0},
        }
        (tmp_path / "process.json").write_text(json.dumps(program))
        assert runtime("exec", "-p", str(tmp_path / "process.json"), "c") == f"{expected}\n"
        runtime("delete", "--force", "c")


class TestSignals:
    """Whoever is told to end leaves nothing: no container, no traceback."""

    @pytest.mark.parametrize("verb", ["create", "run", "run -d"])
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_at_any_moment(self, runtime: Runtime, verb: str, number: signal.Signals) -> None:  # noqa: F811
        runtime.write("sleep", "1000")
        for step in range(0, 24, 3):
            command = [*RUNTIME, "--root", runtime.root, *verb.split(), "-b", runtime.bundle, "c"]
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
            )
            # Not before it has begun, for until then it is the interpreter that is told to end.
            while not (runtime.root / "c").exists() and process.poll() is None:
                time.sleep(0.001)
            time.sleep(0.002 * step)
            process.send_signal(number)
            # A container that runs in the background has the pipe open, too.
            status = process.wait(SECONDS)
            left = runtime("list", "-q")
            state = runtime.state()["status"] if left else ""
            if left:
                runtime("delete", "--force", "c")
            assert process.stderr
            with process.stderr:
                said = process.stderr.read()
            assert not left or (status == 0 and verb != "run"), f"step {step}: status {status}, it is {state}: {said}"
            assert "Traceback" not in said and "KeyboardInterrupt" not in said, f"step {step}: {said}"
        assert not group(runtime).exists()
