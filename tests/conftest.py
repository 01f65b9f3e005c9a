"""Fixtures of every tier.

    engine_env   environment variables that give a test its own state roots and its own bridge
    pycontainer  runs the command line with them
    busybox      the built-in image, loaded into the test's store; its name
    alpine       Alpine's published root file system, imported into the test's store; its name

Tests in `root` and `uml` need root, those in `uml` a unified cgroup v2 hierarchy besides, and none of them may leave a
mount, a link or a cgroup behind.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import pytest

REPOSITORY = pathlib.Path(__file__).parent.parent
TESTS = REPOSITORY / "tests"
# Not pytest's own directory, because /tmp may be a tmpfs and an overlay's upper directory should be on a disk here.
DISK = os.environ.get("PYCONTAINER_TEST_DISK", "/var/tmp")
ALPINE = REPOSITORY.parent / "shared/images"
COMMAND = [sys.executable, "-P", "-m", "pycontainer.cli"]


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

        With `check` a status that is not 0 fails the test and shows stderr.
        """
        result = subprocess.run(
            [*COMMAND, *arguments],
            input=input if input is not None else ("" if text else b""),
            capture_output=True,
            text=text,
            timeout=timeout,
            env={**os.environ, **self.environment, **(env or {})},
        )
        if check and result.returncode != 0:
            pytest.fail(f"pycontainer {' '.join(map(str, arguments))}: status {result.returncode}\n{result.stderr}")
        return result

    def popen(self, *arguments: str, **keywords) -> subprocess.Popen:
        """Start it with the arguments of subprocess.Popen; the caller ends it."""
        return subprocess.Popen([*COMMAND, *arguments], env={**os.environ, **self.environment}, **keywords)


def new_environment() -> dict[str, str]:
    """Variables with new directories, and a bridge of the same unique name."""
    root = tempfile.mkdtemp(prefix="pycontainer-test-", dir=DISK)
    name = os.path.basename(root).removeprefix("pycontainer-test-")
    state = f"/run/pycontainer-test-{name}"
    os.mkdir(state, 0o700)
    # A link's name has at most 15 bytes.
    return {"PYCONTAINER_ROOT": root, "PYCONTAINER_STATE": state, "PYCONTAINER_BRIDGE": f"pyct{name}"}


def remove_environment(environment: dict[str, str]) -> None:
    """Remove what `new_environment` made, and the bridge. Fails the test if something is still mounted in there."""
    directories = (environment["PYCONTAINER_ROOT"], environment["PYCONTAINER_STATE"])
    mounted = sorted((place for place in mounts() if place.startswith(directories)), reverse=True)
    for place in mounted:
        subprocess.run(["umount", "-l", place], check=True)
    bridge = environment["PYCONTAINER_BRIDGE"]
    if os.path.exists(f"/sys/class/net/{bridge}"):
        subprocess.run(["ip", "link", "delete", bridge], check=True)
    # No check, because a container without a network has made none.
    subprocess.run(["nft", "delete", "table", "ip", f"pycontainer_{bridge}"], stderr=subprocess.DEVNULL)
    for directory in directories:
        shutil.rmtree(directory)
    assert not mounted, f"left mounted: {', '.join(mounted)}"


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
    Pycontainer(environment)("load", "-i", busybox_archive, check=True)
    yield pathlib.Path(environment["PYCONTAINER_ROOT"])
    remove_environment(environment)


@pytest.fixture
def busybox(engine_env: dict[str, str], busybox_root: pathlib.Path) -> str:
    """Puts the built-in image into the test's store. Its name."""
    # cp and not shutil, because it keeps owners, hard links and extended attributes.
    subprocess.run(["cp", "-a", f"{busybox_root}/.", engine_env["PYCONTAINER_ROOT"]], check=True)
    return "busybox"


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
    """Directories of pycontainer's in the cgroup v2 hierarchy."""
    with open("/proc/self/mountinfo") as file:
        roots = [line.split()[4] for line in file if " - cgroup2 " in line]
    return {
        str(directory)
        for root in roots
        for top in pathlib.Path(root).glob("pycontainer*")
        for directory in (top, *top.rglob("*"))
        if directory.is_dir()
    }


def belongings() -> set[str]:
    """Every mount, link and cgroup that a container could leave."""
    links = {f"link {name}" for name in os.listdir("/sys/class/net")}
    return links | {f"mount {place}" for place in mounts()} | {f"cgroup {directory}" for directory in cgroups()}


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test that leaves a mount, a link or a cgroup."""
    if tier(request.path) == "unit" or os.geteuid() != 0:
        yield
        return
    before = belongings()
    yield
    # Because the kernel removes a veth pair some time after its network namespace has died.
    deadline = time.monotonic() + 2
    left = belongings() - before
    while left and time.monotonic() < deadline:
        time.sleep(0.02)
        left &= belongings()
    assert not left, f"left behind: {', '.join(sorted(left))}"
