"""The shell's way of doing a step, as `--explain` prints it: the same as the step, on every supported system.

Debian 12 has util-linux 2.38, whose mount(8) knows neither X-mount.idmap nor ro=recursive, so a line that has these
says from which version on it works.
"""

from __future__ import annotations

import pytest

from pycontainer.image.overlay import MapLayer
from pycontainer.kernel import namespace
from pycontainer.kernel.id_map import IdMap
from pycontainer.runtime.mounts import Options
from pycontainer.runtime.operations.parent import CloneTree, JoinNamespace, WriteIdMaps

UIDS = [IdMap(0, 100000, 1000), IdMap(1000, 300000, 1)]
NEWER = "# from util-linux 2.39 on: mount --version\n"


def clone(*options: str, uids: list[IdMap] | None = None, gids: list[IdMap] | None = None) -> str:
    return CloneTree("/a", Options(list(options)), "a volume", uids or [], gids or []).shell()


def test_a_mapped_layer_says_from_which_version() -> None:
    line = "mount --bind -o X-mount.idmap=/proc/$!/ns/user,ro /layer 3"
    assert MapLayer("/layer", 9, "/target/3").shell() == NEWER + line


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ((), "mount --bind --make-slave /a …"),
        (("rbind",), "mount --rbind --make-rslave /a …"),
        (("rbind", "ro", "nosuid"), "mount --rbind --make-rslave -o ro,nosuid /a …"),
        (("rw", "exec", "noatime"), "mount --bind --make-slave -o noatime,rw,exec /a …"),
        (("relatime",), "mount --bind --make-slave -o relatime /a …"),
        (("rbind", "rro", "rdev"), NEWER + "mount --rbind --make-rslave -o ro=recursive,dev=recursive /a …"),
    ],
)
def test_a_copy_of_a_mount_has_all_its_options(options: tuple[str, ...], line: str) -> None:
    assert clone(*options) == line


def test_id_maps_are_one_word_and_tell_users_from_groups() -> None:
    both = "mount --bind --make-slave -o X-mount.idmap='b:0:100000:1000 b:1000:300000:1' /a …"
    assert clone(uids=UIDS, gids=list(UIDS)) == NEWER + both
    apart = "mount --rbind --make-rslave -o ro,X-mount.idmap='u:0:100000:1000 g:0:5:1' /a …"
    assert clone("rbind", "ro", uids=UIDS[:1], gids=[IdMap(0, 5, 1)]) == NEWER + apart


def test_the_whole_of_an_id_map_is_written_at_once() -> None:
    assert WriteIdMaps(7, UIDS, UIDS[:1]).shell().splitlines() == [
        r"printf '0 100000 1000\n1000 300000 1\n' > /proc/7/uid_map",
        r"printf '0 100000 1000\n' > /proc/7/gid_map",
    ]


@pytest.mark.parametrize("kind", namespace.TYPES.values(), ids=namespace.TYPES)
def test_a_namespace_is_joined_by_an_option_that_nsenter_has(kind: int) -> None:
    option = JoinNamespace(kind, "/n").shell().split("=")[0].split("--")[1]
    assert option in ("mount", "uts", "ipc", "net", "pid", "cgroup", "user", "time")
