"""What others have done to an installation, or its disk, and what the next command makes of it."""

from __future__ import annotations

import os
import pathlib
import subprocess
from collections.abc import Iterator

import pytest
from conftest import COMMAND, Pycontainer, copy_store, end_processes, new_environment, remove_environment, wait_until

SLEEP = ("busybox", "sleep", "1000")


def test_ports_are_published_again_after_somebody_has_removed_the_rules(pycontainer: Pycontainer, busybox: str) -> None:
    pycontainer("run", "-d", "--name", "web", "-p", "80", *SLEEP, check=True)
    table = ("ip", f"pycontainer_{pycontainer.bridge}")

    def elements() -> str:
        command = ["nft", "list", "map", *table, "published"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    before = elements()
    assert " . 80" in before
    subprocess.run(["nft", "delete", "table", *table], check=True)
    pycontainer("run", "--rm", "busybox", "true", check=True)
    assert elements() == before
    pycontainer("rm", "-f", "web", check=True)


@pytest.fixture(params=["ext4, 1 KiB blocks", "ext4, 4 KiB blocks", "tmpfs"])
def small(request: pytest.FixtureRequest, busybox_root: pathlib.Path) -> Iterator[Pycontainer]:
    """An installation on a file system of its own, of 32 MiB."""
    environment = new_environment()
    root = environment["PYCONTAINER_ROOT"]
    device = pathlib.Path(f"{root}.img")
    if request.param == "tmpfs":
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m,mode=700", "small", root], check=True)
    else:
        device.touch()
        os.truncate(device, 32 << 20)
        blocks = "1024" if "1 KiB" in request.param else "4096"
        subprocess.run(
            ["mke2fs", "-q", "-t", "ext4", "-b", blocks, "-O", "^has_journal", "-m", "0", device], check=True
        )
        subprocess.run(["mount", "-o", "loop", device, root], check=True)
    try:
        copy_store(busybox_root, environment)
        yield Pycontainer(environment)
        end_processes(environment)
    finally:
        subprocess.run(["umount", "-l", root], check=True)
        device.unlink(missing_ok=True)
        remove_environment(environment)


# Until nothing more fits, byte by byte at the end.
FILL = "for s in 1048576 65536 4096 1024 1; do dd if=/dev/zero bs=$s of=/fill$s 2>/dev/null; done; true"


def free(installation: Pycontainer) -> int:
    status = os.statvfs(installation.root)
    return status.f_bavail * status.f_frsize


def test_a_full_disk_can_be_freed(small: Pycontainer) -> None:
    before = free(small)
    filled = small("run", "--name", "glutton", "--network", "none", "busybox", "sh", "-c", FILL)
    assert (filled.returncode, filled.stderr) == (0, "")
    assert free(small) < 2 << 20
    for _ in range(3):
        listed = small("ps", "-a", check=True).stdout
        assert "glutton" in listed and "Exited" in listed
        assert "busybox" in small("images", check=True).stdout
        refused = small("run", "--rm", "--network", "none", "busybox", "true")
        assert refused.returncode in (0, 125) and "Traceback" not in refused.stderr
        assert not refused.returncode or "no space left on device" in refused.stderr or "disk" in refused.stderr
    small("rm", "glutton", check=True)
    assert free(small) > before - (1 << 20)
    small("run", "--rm", "--network", "none", "busybox", "true", check=True)
    assert small("ps", "-aq", check=True).stdout == ""


def test_what_fills_the_disk_can_be_ended_meanwhile(small: Pycontainer) -> None:
    """It takes every byte that is freed, as fast as it can."""
    before = free(small)
    endless = f"while :; do {FILL}; done"
    small("run", "-d", "--name", "glutton", "--network", "none", "busybox", "sh", "-c", endless, check=True)
    wait_until(lambda: free(small) < 4096)
    assert "glutton" in small("ps", check=True).stdout
    small("rm", "-f", "glutton", check=True)
    assert free(small) > before - (1 << 20)
    assert small("ps", "-aq", check=True).stdout == ""


def test_one_that_is_to_be_removed_at_its_end_goes_although_the_disk_is_full(small: Pycontainer) -> None:
    before = free(small)
    small("run", "--rm", "--network", "none", "busybox", "sh", "-c", FILL)
    small("ps", check=True)
    # What the processes had open of it goes with the last of them.
    wait_until(lambda: free(small) > before - (1 << 20))
    assert small("ps", "-aq", check=True).stdout == ""


def test_what_is_no_lock_does_not_stop_every_command(pycontainer: Pycontainer, busybox: str) -> None:
    stray = pycontainer.state / "containers/stray"
    stray.mkdir(parents=True)
    try:
        result = pycontainer("run", "--rm", "--network", "none", "busybox", "echo", "x")
        assert (result.returncode, result.stdout) == (0, "x\n")
        assert "stray" in result.stderr and "is a directory" in result.stderr
        assert pycontainer("ps").returncode == 0
    finally:
        stray.rmdir()


def test_a_read_only_disk_can_be_looked_at(small: Pycontainer) -> None:
    small("create", "--name", "old", "--network", "none", "busybox", "true", check=True)
    subprocess.run(["mount", "-o", "remount,ro", small.root], check=True)
    try:
        assert "busybox" in small("images", check=True).stdout
        assert "old" in small("ps", "-a", check=True).stdout
        assert '"Name": "/old"' in small("inspect", "old", check=True).stdout
        for command in ("tag busybox other", "rm old", "run --rm --network none busybox true", "volume create vol"):
            refused = small(*command.split())
            assert refused.returncode in (1, 125), command
            assert "read-only" in refused.stderr and "full" not in refused.stderr, (command, refused.stderr)
    finally:
        subprocess.run(["mount", "-o", "remount,rw", small.root], check=True)
    assert "other" not in small("images", check=True).stdout
    small("rm", "old", check=True)


def test_reasons_that_are_not_a_full_disk(pycontainer: Pycontainer, busybox: str) -> None:
    def refused(limit: str) -> str:
        command = ["sh", "-c", f'ulimit {limit}; exec "$@"', "sh", *COMMAND, "tag", "busybox", "x:y"]
        environment = {**os.environ, **pycontainer.environment}
        result = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert result.returncode != 0
        return result.stderr

    assert "the disk is full" not in (said := refused("-f 0")) and "file too large" in said
    # As few as the interpreter gets along with.
    said = next(said for limit in range(4, 20) if "Fatal Python error" not in (said := refused(f"-n {limit}")))
    assert "the disk is full" not in said and "too many open files" in said
