"""Fixtures of every tier.

    engine_env   environment variables that give a test its own state roots and its own bridge
    pycontainer  runs the command line with them
    box          runs it too, in one store with busybox for all tests of a module
    busybox      the built-in image, loaded into the test's store; its name
    programs     a directory for PATH, with `pycontainer` and `sudo`
    alpine       Alpine's published root file system, imported into the test's store; its name

Tests in `root` and `uml` need root, those in `uml` a unified cgroup v2 hierarchy besides, and none of them may leave a
mount, a link or a cgroup behind. All that a session of tests makes has the session's own name in its own: see SESSION.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import pathlib
import secrets
import select
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import pytest
import warm

REPOSITORY = pathlib.Path(__file__).parent.parent
TESTS = REPOSITORY / "tests"
# Not pytest's own directory, because /tmp may be a tmpfs and an overlay's upper directory should be on a disk here.
DISK = os.environ.get("PYCONTAINER_TEST_DISK", "/var/tmp")
ALPINE = REPOSITORY.parent / "shared/images"
COMMAND = [sys.executable, "-IS", str(TESTS / "command.py")]

# Stands in every name that this session's tests give to a directory, and so in its mounts and cgroups; other sessions
# on the same machine have another. Short, because a link's name has at most 15 bytes.
TOKEN = secrets.token_hex(3)
# No test asks anybody beyond this machine: what would is sent to a proxy that is not there.
OFFLINE = {
    name: value
    for key, value in (("HTTP_PROXY", "http://127.0.0.1:1"), ("HTTPS_PROXY", "http://127.0.0.1:1"),
                       ("NO_PROXY", "127.0.0.1,localhost"))
    for name in (key, key.lower())
}  # fmt: skip
SESSION = f"pycontainer-test-{TOKEN}-"
BRIDGE = f"pyct{TOKEN}"


def is_unified() -> bool:
    """Whether /sys/fs/cgroup is cgroup v2 with the controllers that limits need."""
    try:
        controllers = pathlib.Path("/sys/fs/cgroup/cgroup.controllers").read_text()
    except OSError:
        return False
    return {"cpu", "io", "memory", "pids"} <= set(controllers.split())


def tier(path: pathlib.Path) -> str:
    """`unit`, `root` or `uml`."""
    return path.relative_to(TESTS).parts[0]


def pytest_configure() -> None:
    # Because what ignores a signal starts others that do: a shell makes what it starts with & ignore the first two, and
    # nohup(1) the third. A handler ignores it for this process alone.
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    root, unified = os.geteuid() == 0, is_unified()
    for item in items:
        if tier(item.path) != "unit" and not root:
            item.add_marker(pytest.mark.skip(reason="needs root"))
        elif tier(item.path) == "uml" and not unified:
            item.add_marker(pytest.mark.skip(reason="needs a unified cgroup v2 hierarchy; ./test.sh uml boots one"))


class Pycontainer:
    """Runs the command line: `pycontainer("run", "--rm", "busybox", "true")`."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment
        self.root = pathlib.Path(environment["PYCONTAINER_ROOT"])
        self.state = pathlib.Path(environment["PYCONTAINER_STATE"])
        self.bridge = environment["PYCONTAINER_BRIDGE"]

    def __call__(
        self,
        *arguments: str | os.PathLike[str],
        input: str | bytes | None = None,
        text: bool = True,
        check: bool = False,
        timeout: float = 120,
        env: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess:
        """Run to the end and give status and captured output, as bytes unless `text`. stdin is empty without `input`.

        Without `env` it is not an interpreter of its own: see warm.py.

        With `check` a status that is not 0 fails the test and shows stderr.
        """
        environment = {**os.environ, **self.environment}
        if env:
            result = subprocess.run(
                [*COMMAND, *arguments],
                input=input if input is not None else ("" if text else b""),
                capture_output=True,
                text=text,
                timeout=timeout,
                env={**environment, **env},
            )
        else:
            result = warm.completed(list(map(os.fsdecode, arguments)), input, environment, timeout, text)
        if check and result.returncode != 0:
            pytest.fail(f"pycontainer {' '.join(map(str, arguments))}: status {result.returncode}\n{result.stderr}")
        return result

    def popen(self, *arguments: str, **keywords) -> subprocess.Popen:
        """Start it with the arguments of subprocess.Popen; the caller ends it."""
        return subprocess.Popen([*COMMAND, *arguments], env={**os.environ, **self.environment}, **keywords)


def wait_until(condition: Callable[[], object], seconds: float = 30, message: str = "it did not happen") -> None:
    """Until `condition` holds; fails the test if it does not for so long."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{message} in {seconds} s"
        time.sleep(0.02)


def new_directory(parent: str | os.PathLike[str] = DISK) -> pathlib.Path:
    """A directory with the session's name in its own; who makes it removes it."""
    return pathlib.Path(tempfile.mkdtemp(prefix=SESSION, dir=parent))


_environments = itertools.count()


def new_environment() -> dict[str, str]:
    """Variables with new directories and a bridge, whose names are this session's and used once."""
    # All of one length, so that no name is the beginning of another.
    number = f"{next(_environments):04}"
    state = f"/run/{SESSION}{number}"
    os.mkdir(state, 0o700)
    return {
        **OFFLINE,
        "PYCONTAINER_ROOT": str(new_directory()),
        "PYCONTAINER_STATE": state,
        "PYCONTAINER_BRIDGE": f"{BRIDGE}{number}",
    }


def remove_environment(environment: dict[str, str]) -> None:
    """Remove what `new_environment` made, and the bridge.

    Fails the test if a container still runs, something is still mounted in there, or a container is on the bridge.
    """
    directories = (environment["PYCONTAINER_ROOT"], environment["PYCONTAINER_STATE"])
    # Some may be about to end.
    running = lasting(lambda: set(monitors(environment)))
    end_processes(environment)
    mounted = sorted((place for place in mounts() if place.startswith(directories)), reverse=True)
    for place in mounted:
        subprocess.run(["umount", "-l", place], check=True)
    bridge = environment["PYCONTAINER_BRIDGE"]
    for made in own_bridges(environment):
        subprocess.run(["ip", "link", "delete", made], stderr=subprocess.DEVNULL)
    # Asked for while the bridge is there, because nothing else tells whose container a veth pair was.
    ports = lasting(lambda: bridge_ports(bridge))
    for port in ports:
        subprocess.run(["ip", "link", "delete", port], stderr=subprocess.DEVNULL)
    if os.path.exists(f"/sys/class/net/{bridge}"):
        subprocess.run(["ip", "link", "delete", bridge], check=True)
    # No check, because a container without a network has made none.
    for family in ("ip", "ip6"):
        subprocess.run(["nft", "delete", "table", family, f"pycontainer_{bridge}"], stderr=subprocess.DEVNULL)
    for directory in directories:
        shutil.rmtree(directory)
    assert not running, f"left running: {', '.join(sorted(running))}"
    assert not mounted, f"left mounted: {', '.join(mounted)}"
    assert not ports, f"left on the bridge: {', '.join(sorted(ports))}"


def own_bridges(environment: dict[str, str]) -> list[str]:
    """The bridges of networks that a test has made and not removed."""
    path = pathlib.Path(environment["PYCONTAINER_ROOT"], "db.sqlite")
    if not path.exists():
        return []
    connection = sqlite3.connect(path)
    try:
        return [name for (name,) in connection.execute("SELECT interface FROM networks WHERE id != ''")]
    except sqlite3.Error:
        # One that a test has spoilt, or of an older version.
        return []
    finally:
        connection.close()


def monitors(environment: dict[str, str]) -> list[str]:
    """The ids of an installation's containers that run."""
    try:
        return os.listdir(pathlib.Path(environment["PYCONTAINER_STATE"], "monitors"))
    except FileNotFoundError:
        return []


def end_processes(environment: dict[str, str]) -> None:
    """End the launcher of an installation, and the containers that still run."""
    pycontainer = Pycontainer(environment)
    if running := monitors(environment):
        pycontainer("rm", "-f", *running)
    pid = lock_holder(pycontainer.state / "launcher.lock")
    if pid:
        descriptor = os.pidfd_open(pid)
        os.kill(pid, signal.SIGTERM)
        select.select([descriptor], [], [])
        os.close(descriptor)


def lock_holder(path: pathlib.Path) -> int:
    """The process that has a record lock on a file, 0 for none."""
    try:
        with open(path, "rb+") as file:
            asked = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            kind, _, _, _, pid = struct.unpack("hhqqi", fcntl.fcntl(file, fcntl.F_GETLK, asked))
    except FileNotFoundError:
        return 0
    return 0 if kind == fcntl.F_UNLCK else pid


def copy_store(store: pathlib.Path, environment: dict[str, str]) -> None:
    """Give an installation the images of another."""
    # cp and not shutil, because it keeps owners, hard links and extended attributes.
    subprocess.run(["cp", "-a", f"{store}/.", environment["PYCONTAINER_ROOT"]], check=True)


@pytest.fixture
def engine_env() -> Iterator[dict[str, str]]:
    """PYCONTAINER_ROOT (on a disk), PYCONTAINER_STATE and PYCONTAINER_BRIDGE, all of this test's own."""
    environment = new_environment()
    yield environment
    remove_environment(environment)


@pytest.fixture
def pycontainer(engine_env: dict[str, str]) -> Pycontainer:
    return Pycontainer(engine_env)


@pytest.fixture(scope="session")
def busybox_archive(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The archive that images/busybox makes."""
    archive = tmp_path_factory.mktemp("images") / "busybox.tar"
    subprocess.run([sys.executable, REPOSITORY / "images/busybox/build.py", archive], check=True, capture_output=True)
    return archive


@pytest.fixture(scope="session")
def busybox_root(busybox_archive: pathlib.Path) -> Iterator[pathlib.Path]:
    """A PYCONTAINER_ROOT with busybox in it, which tests copy; nothing runs from it."""
    environment = new_environment()
    try:
        Pycontainer(environment)("load", "-i", busybox_archive, check=True)
        yield pathlib.Path(environment["PYCONTAINER_ROOT"])
    finally:
        remove_environment(environment)


@pytest.fixture
def busybox(engine_env: dict[str, str], busybox_root: pathlib.Path) -> str:
    """Puts the built-in image into the test's store. Its name."""
    copy_store(busybox_root, engine_env)
    return "busybox"


@pytest.fixture(scope="module")
def box(busybox_root: pathlib.Path) -> Iterator[Pycontainer]:
    """A store with busybox for all tests of a module. They use no bridge, which would outlive the first of them."""
    environment = new_environment()
    copy_store(busybox_root, environment)
    yield Pycontainer(environment)
    remove_environment(environment)


@pytest.fixture
def programs(tmp_path: pathlib.Path) -> pathlib.Path:
    """A directory with `pycontainer`, and `sudo` for who is root."""
    for name, line in (("pycontainer", " ".join(map(str, COMMAND))), ("sudo", "")):
        (tmp_path / name).write_text(f'#!/bin/sh\nexec {line} "$@"\n')
        (tmp_path / name).chmod(0o755)
    return tmp_path


@pytest.fixture
def alpine(busybox: str, pycontainer: Pycontainer) -> str:
    """Puts Alpine's root file system (and busybox) into the test's store. Its name."""
    archives = sorted(ALPINE.glob("alpine-minirootfs-*.tar.gz"))
    if not archives:
        pytest.skip(f"no Alpine root file system in {ALPINE}")
    pycontainer("import", archives[-1], "alpine", check=True)
    return "alpine"


def mounts() -> set[str]:
    with open("/proc/self/mountinfo") as file:
        return {line.split()[4] for line in file}


def cgroups() -> set[str]:
    """This session's directories in the cgroup v2 hierarchy: an installation's is called as its state directory."""
    with open("/proc/self/mountinfo") as file:
        roots = [line.split()[4] for line in file if " - cgroup2 " in line]
    # os.walk passes over what vanishes meanwhile.
    return {
        directory
        for root in roots
        for name in os.listdir(root)
        if SESSION in name
        for directory, _, _ in os.walk(f"{root}/{name}")
    }


def bridge_ports(bridge: str) -> set[str]:
    try:
        return set(os.listdir(f"/sys/class/net/{bridge}/brif"))
    except FileNotFoundError:
        return set()


def belongings(*marks: str) -> set[str]:
    """Every mount, link, cgroup and process that a container of this session could leave.

    marks  what stands in the mount of a session's directory: in its place, its source or its root
    """
    with open("/proc/self/mountinfo") as file:
        found = {f"mount {line.split()[4]}" for line in file if any(mark in line for mark in marks)}
    bridges = [name for name in os.listdir("/sys/class/net") if name.startswith(BRIDGE)]
    found |= {f"link {name}" for bridge in bridges for name in (bridge, *bridge_ports(bridge))}
    found |= {f"process {process}" for process in processes()}
    return found | {f"cgroup {directory}" for directory in cgroups()}


# Most processes are these, and every test looks at all twice. They have executed nothing.
KERNEL_THREADS = {pid for pid in os.listdir("/proc") if pid.isdecimal() and not os.path.exists(f"/proc/{pid}/exe")}


def processes() -> set[str]:
    """This session's monitors and the like: name and pid; not the launcher with its spare ones. Clients are awaited."""
    found = set()
    for pid in filter(str.isdecimal, {*os.listdir("/proc")} - KERNEL_THREADS):
        try:
            # Unbuffered, because every test reads those of the whole machine twice.
            with open(f"/proc/{pid}/comm", "rb", buffering=0) as file:
                name = file.read(16).strip().decode(errors="replace")
            if (
                name.startswith("pyc-")
                and name != "pyc-spare"
                and SESSION.encode() in pathlib.Path(f"/proc/{pid}/environ").read_bytes()
            ):
                found.add(f"{name} {pid}")
        except OSError:
            continue
    return found


def lasting(find: Callable[[], set[str]], seconds: float = 2) -> set[str]:
    """What is found now and still after so long: the kernel removes a dead container's veth pair some time later."""
    deadline = time.monotonic() + seconds
    left = find()
    while left and time.monotonic() < deadline:
        time.sleep(0.02)
        left &= find()
    return left


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fails a test that leaves a mount, a link, a cgroup or a process. Those of other sessions do not count."""
    if tier(request.path) == "unit" or os.geteuid() != 0:
        yield
        return
    marks = (SESSION, f"{tmp_path_factory.getbasetemp()}/")
    before = belongings(*marks)
    yield
    left = lasting(lambda: belongings(*marks) - before)
    assert not left, f"left behind: {', '.join(sorted(left))}"
