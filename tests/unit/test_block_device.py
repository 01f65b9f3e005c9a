"""Which whole disk a path stands for."""

from __future__ import annotations

import errno
import os
import pathlib
import types

import pytest

from pycontainer.kernel import block_device


@pytest.fixture
def disks(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """sysfs of one disk, 8:16, with one partition, 8:17; and paths that are those, MAJOR:MINOR in their names."""
    disk = tmp_path / "devices" / "sdb"
    for directory, number in ((disk, "8:16"), (disk / "sdb1", "8:17")):
        directory.mkdir(parents=True)
        (directory / "dev").write_text(f"{number}\n")
        (tmp_path / number).symlink_to(directory)
    (disk / "sdb1" / "partition").write_text("1\n")
    monkeypatch.setattr(block_device, "_DEVICES", str(tmp_path))

    def stat(path: str) -> object:
        major, minor = map(int, path.split(":"))
        return types.SimpleNamespace(st_mode=0o060660, st_rdev=os.makedev(major, minor))

    monkeypatch.setattr(block_device, "os", types.SimpleNamespace(**{**vars(os), "stat": stat}))


@pytest.mark.usefixtures("disks")
@pytest.mark.parametrize("path", ["8:16", "8:17"])
def test_a_partition_stands_for_its_disk(path: str) -> None:
    assert block_device.whole_disk(path) == (8, 16)


def test_what_is_no_block_device() -> None:
    with pytest.raises(OSError) as caught:
        block_device.whole_disk("/dev/null")
    assert caught.value.errno == errno.ENOTBLK
