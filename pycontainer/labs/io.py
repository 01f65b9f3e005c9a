"""A disk that is made slow for one container."""

from __future__ import annotations

import os
import time

from pycontainer.errors import HostError
from pycontainer.kernel import block_device
from pycontainer.labs._stage import IMAGE, Stage

SUMMARY = "A disk is made slow for one container."
CONTROLLERS = ("io",)
_NAME = "lab-io"


def show(stage: Stage) -> None:
    disk = find_disk(stage.settings.root)
    stage.part("Writing 8 MiB, at 4 MiB a second")
    stage.say(f"{disk} is the disk that {stage.settings.root} is on, and with it what containers write.")
    limit = ["--device-write-bps", f"{disk}:4m"]
    stage.run("run", "-d", "--name", _NAME, "--network", "none", *limit, IMAGE, "sleep", "600")
    stage.files(_NAME, "io.max", "io.stat")
    write = ["dd", "if=/dev/zero", "of=/file", "bs=64k", "count=128", "oflag=direct"]
    begin = time.monotonic()
    stage.run("exec", _NAME, *write)
    limited = time.monotonic() - begin
    stage.files(_NAME, "io.stat")
    stage.part("Without the limit")
    stage.run("update", "--device-write-bps", f"{disk}:0", _NAME)
    stage.files(_NAME, "io.max")
    begin = time.monotonic()
    stage.run("exec", _NAME, *write)
    free = time.monotonic() - begin
    stage.say(f"{limited:.1f} seconds with the limit, {free:.1f} without: every 64 KiB had to wait for its turn.")


def find_disk(path: str) -> str:
    """The whole disk that a directory is on. Raises HostError where it is on none, as on tmpfs."""
    number = os.stat(path).st_dev
    place = f"/sys/dev/block/{os.major(number)}:{os.minor(number)}"
    if not os.path.exists(place):
        hint = "PYCONTAINER_ROOT names a directory on another file system, ext4 or xfs on a disk say"
        raise HostError("lab io", path, "its file system is on no disk of its own that could be limited", hint)
    device = f"/dev/{os.path.basename(os.path.realpath(place))}"
    major, minor = block_device.whole_disk(device)
    return f"/dev/{os.path.basename(os.path.realpath(f'/sys/dev/block/{major}:{minor}'))}"
