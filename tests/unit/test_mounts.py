"""Mount options as flags, attributes and data, against mount(8) and the numbers of linux/mount.h."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontainer.errors import UsageError
from pycontainer.kernel import mount as k
from pycontainer.runtime.mounts import Options

MS = {
    "ro": 1, "nosuid": 2, "nodev": 4, "noexec": 8, "sync": 16, "mand": 64, "dirsync": 128, "nosymfollow": 256,
    "noatime": 1024, "nodiratime": 2048, "silent": 1 << 15, "relatime": 1 << 21, "iversion": 1 << 23,
    "strictatime": 1 << 24, "lazytime": 1 << 25,
}  # fmt: skip
ATTRIBUTES = {"ro": 1, "nosuid": 2, "nodev": 4, "noexec": 8, "nodiratime": 0x80, "nosymfollow": 0x200000}
ATIME = {"relatime": 0, "noatime": 0x10, "strictatime": 0x20}
OPPOSITES = {
    "ro": "rw", "nosuid": "suid", "nodev": "dev", "noexec": "exec", "nodiratime": "diratime",
    "nosymfollow": "symfollow", "sync": "async", "silent": "loud", "mand": "nomand", "iversion": "noiversion",
    "lazytime": "nolazytime", "relatime": "norelatime", "strictatime": "nostrictatime", "noatime": "atime",
}  # fmt: skip


@pytest.mark.parametrize(("option", "flag"), MS.items())
def test_flags(option: str, flag: int) -> None:
    options = Options([option])
    assert (options.flags, options.data, options.propagation, options.recursive) == (flag, "", 0, False)


@pytest.mark.parametrize(("option", "opposite"), OPPOSITES.items())
def test_the_last_of_two_opposites_wins(option: str, opposite: str) -> None:
    assert Options([option, opposite]).flags == 0
    assert Options([opposite, option]).flags == MS[option]


@pytest.mark.parametrize(("option", "attribute"), ATTRIBUTES.items())
def test_attributes_of_a_bind(option: str, attribute: int) -> None:
    options = Options(["bind", option])
    assert (options.set, options.clear) == (attribute, 0)
    options = Options(["bind", OPPOSITES[option]])
    assert (options.set, options.clear) == (0, attribute)
    options = Options(["bind", option, OPPOSITES[option]])
    assert (options.set, options.clear) == (0, attribute)
    options = Options(["bind", OPPOSITES[option], option])
    assert (options.set, options.clear) == (attribute, 0)


@pytest.mark.parametrize(("option", "attribute"), ATTRIBUTES.items())
def test_recursive_attributes(option: str, attribute: int) -> None:
    options = Options(["rbind", f"r{option}"])
    assert options.recursive
    assert (options.set, options.clear) == (0, 0)
    assert (options.recursive_set, options.recursive_clear) == (attribute, 0)
    assert Options([f"r{OPPOSITES[option]}"]).recursive_clear == attribute


@pytest.mark.parametrize("first", [None, *ATIME])
@pytest.mark.parametrize("second", ATIME)
def test_access_times_are_one_field_of_which_all_is_cleared(first: str | None, second: str) -> None:
    """mount_setattr(2): to change the access time settings, all of MOUNT_ATTR__ATIME must be in attr_clr."""
    options = Options([option for option in (first, second) if option])
    assert (options.set, options.clear) == (ATIME[second], 0x70)


@pytest.mark.parametrize(
    ("option", "flags"),
    [
        ("private", 1 << 18), ("rprivate", 1 << 18 | 1 << 14), ("slave", 1 << 19), ("rslave", 1 << 19 | 1 << 14),
        ("shared", 1 << 20), ("rshared", 1 << 20 | 1 << 14), ("unbindable", 1 << 17),
        ("runbindable", 1 << 17 | 1 << 14),
    ],
)  # fmt: skip
def test_propagation(option: str, flags: int) -> None:
    options = Options(["bind", option])
    assert (options.propagation, options.flags, options.data) == (flags, 0, "")


def test_bind_and_rbind() -> None:
    assert not Options(["bind"]).recursive
    assert Options(["rbind"]).recursive
    # Recursion wins, as in runc.
    assert Options(["rbind", "bind"]).recursive and Options(["bind", "rbind"]).recursive


def test_what_is_no_flag_is_the_file_systems() -> None:
    options = Options(["nosuid", "mode=755", "defaults", "size=65536k", "relatime"])
    assert options.data == "mode=755,size=65536k"
    assert options.flags == MS["nosuid"] | MS["relatime"]


@pytest.mark.parametrize("option", ["idmap", "ridmap", "tmpcopyup"])
def test_what_would_change_the_meaning_is_refused(option: str) -> None:
    with pytest.raises(UsageError, match=option):
        Options(["bind", option])


def test_a_volume_of_dockers() -> None:
    options = Options(["rbind", "rprivate", "rro", "ro"])
    assert (options.recursive, options.set, options.recursive_set) == (True, 1, 1)
    assert options.propagation == k.MS_PRIVATE | k.MS_REC


@given(st.lists(st.sampled_from([*MS, *OPPOSITES.values(), *ATIME]), max_size=8))
def test_nothing_is_set_and_cleared_but_the_access_time_field(options: list[str]) -> None:
    found = Options(options)
    assert found.set & found.clear & ~0x70 == 0
    if found.set & 0x70:
        assert found.clear & 0x70 == 0x70


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (0, "0"),
        (1, "MS_RDONLY"),
        (1 << 14 | 1 << 18, "MS_REC|MS_PRIVATE"),
        (2 | 4 | 8, "MS_NOSUID|MS_NODEV|MS_NOEXEC"),
        (1 << 30 | 1, "MS_RDONLY|0x40000000"),
    ],
)
def test_flags_are_written_as_strace_writes_them(flags: int, text: str) -> None:
    assert k.mount_flags(flags) == text


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (0x10, "MOUNT_ATTR_NOATIME"),
        (0x100001, "MOUNT_ATTR_RDONLY|MOUNT_ATTR_IDMAP"),
        (0x200082, "MOUNT_ATTR_NOSUID|MOUNT_ATTR_NODIRATIME|MOUNT_ATTR_NOSYMFOLLOW"),
    ],
)
def test_attributes_are_written_as_strace_writes_them(flags: int, text: str) -> None:
    assert k.attribute_flags(flags) == text


def test_no_two_flags_share_a_bit() -> None:
    for first, second in itertools.combinations(MS.values(), 2):
        assert not first & second


def test_options_that_the_kernel_would_cut_are_refused() -> None:
    with pytest.raises(OSError, match="longer than 4095"):
        k.mount("none", "/nonexistent", "tmpfs", 0, "x" * 4096)
