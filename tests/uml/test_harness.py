"""The kernel of this tier has what the other tests of it build on."""

from __future__ import annotations

import os
import pathlib
import subprocess

import pytest

from pycontainer.kernel import cgroup, mount, namespace

CGROUP = pathlib.Path("/sys/fs/cgroup")


@pytest.fixture
def disk(engine_env: dict[str, str]) -> pathlib.Path:
    """A directory on the disk on which state roots are."""
    return pathlib.Path(engine_env["PYCONTAINER_ROOT"])


def in_child(work, *arguments: object) -> None:
    """Run `work` in a child with its own mount namespace, in which no mount is shared with this one."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            namespace.unshare(namespace.CLONE_NEWNS)
            mount.mount(None, "/", None, mount.MS_REC | mount.MS_PRIVATE, None)
            work(*arguments)
            status = 0
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_controllers_are_in_the_unified_hierarchy() -> None:
    hierarchy = cgroup.find_hierarchy()
    assert hierarchy is not None
    assert hierarchy.mountpoint == str(CGROUP)
    assert hierarchy.controllers >= {"cpu", "io", "memory", "pids"}
    assert hierarchy.version1 == {}


def test_a_memory_limit_kills() -> None:
    hierarchy = cgroup.find_hierarchy()
    assert hierarchy is not None
    cgroup.make(hierarchy, "pycontainer-test/hog")
    directory = CGROUP / "pycontainer-test/hog"
    try:
        cgroup.write(f"{directory}/memory.max", str(30 << 20))
        cgroup.write(f"{directory}/memory.swap.max", "0")
        script = f"echo $$ >{directory}/cgroup.procs && exec head -c 100m /dev/zero | tail"
        result = subprocess.run(["sh", "-c", script], capture_output=True)
        assert result.returncode == 137
        assert "oom_kill 1\n" in cgroup.read(f"{directory}/memory.events")
    finally:
        cgroup.remove(str(directory))
        cgroup.remove_if_empty(str(directory.parent))


def test_swap_is_on() -> None:
    if "User Mode Linux" not in pathlib.Path("/proc/cpuinfo").read_text():
        pytest.skip("only the machine that boot.py makes must have swap")
    assert len(pathlib.Path("/proc/swaps").read_text().splitlines()) == 2


def overlay(directory: pathlib.Path) -> None:
    for name in ("lower", "upper", "work", "merged"):
        (directory / name).mkdir()
    (directory / "lower/file").write_text("lower")
    options = f"lowerdir={directory}/lower,upperdir={directory}/upper,workdir={directory}/work"
    mount.mount("overlay", str(directory / "merged"), "overlay", 0, options)
    (directory / "merged/file").write_text("upper")
    assert (directory / "lower/file").read_text() == "lower"
    assert (directory / "upper/file").read_text() == "upper"


def test_overlay_with_its_upper_directory_on_disk(disk: pathlib.Path) -> None:
    in_child(overlay, disk)


def id_mapped(directory: pathlib.Path) -> None:
    (directory / "file").touch()
    os.chown(directory / "file", 7, 7)
    extent = [namespace.IdMap(0, 100000, 65536)]
    tree = mount.open_tree(mount.AT_FDCWD, str(directory), mount.OPEN_TREE_CLONE | mount.OPEN_TREE_CLOEXEC)
    user = namespace.new_user_namespace(extent, extent)
    mount.mount_setattr(tree, 0, set_=mount.MOUNT_ATTR_IDMAP, userns=user)
    assert os.stat("file", dir_fd=tree).st_uid == 100007


def test_id_mapped_mount_of_the_disk(disk: pathlib.Path) -> None:
    in_child(id_mapped, disk)


def all_namespaces() -> None:
    namespace.unshare(
        namespace.CLONE_NEWUSER
        | namespace.CLONE_NEWCGROUP
        | namespace.CLONE_NEWIPC
        | namespace.CLONE_NEWNET
        | namespace.CLONE_NEWPID
        | namespace.CLONE_NEWUTS
    )


def test_all_namespaces() -> None:
    in_child(all_namespaces)


def test_bridge_and_veth(engine_env: dict[str, str]) -> None:
    bridge = engine_env["PYCONTAINER_BRIDGE"]
    for command in (
        f"link add {bridge} type bridge",
        "link add pyctest0 type veth peer name pyctest1",
        f"link set pyctest0 master {bridge} up",
        "link delete pyctest0",
    ):
        subprocess.run(["ip", *command.split()], check=True)
