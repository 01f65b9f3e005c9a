"""--user against the image's own passwd and group, whatever the image made of them."""

from __future__ import annotations

import errno
import os
import pathlib
import stat
from collections.abc import Callable, Iterator

import pytest

from pycontainer.engine import user
from pycontainer.errors import UsageError
from pycontainer.kernel import root_path

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
alice:x:1000:1000:Alice:/home/alice:/bin/sh
1234:x:5:6:numeric name:/five:/bin/sh
homeless:x:7:8::
nohome:x:9:9:::/bin/sh
short:x:11
broken:x:abc:1::/x:
super:x:\u00b2:1::/x:
huge:x:4294967295:1::/x:
hugegid:x:12:4294967296::/x:
# a comment
alice:x:2000:2000:second:/second:/bin/sh
"""
GROUP = """\
root:x:0:
staff:x:50:alice,root
wheel:x:10:root
alice:x:1000:alice
audio:x:29:bob,alice
empty:x:30:
short:x
broken:x:y:alice
super:x:\u00b2:alice
huge:x:4294967295:alice
"""


@pytest.fixture
def image(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    return tmp_path


def resolve(image: pathlib.Path, text: str) -> tuple[int, int, list[int], str]:
    root = os.open(image, os.O_PATH | os.O_DIRECTORY)
    try:
        found = user.resolve(root, text)
    finally:
        os.close(root)
    return found.uid, found.gid, found.groups, found.home


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", (0, 0, [0, 50, 10], "/root")),
        ("root", (0, 0, [0, 50, 10], "/root")),
        ("0", (0, 0, [0, 50, 10], "/root")),
        ("alice", (1000, 1000, [1000, 50, 29], "/home/alice")),
        ("1000", (1000, 1000, [1000, 50, 29], "/home/alice")),
        ("alice:staff", (1000, 50, [50], "/home/alice")),
        ("alice:29", (1000, 29, [29], "/home/alice")),
        ("alice:777", (1000, 777, [777], "/home/alice")),
        ("alice:", (1000, 1000, [1000, 50, 29], "/home/alice")),
        (":staff", (0, 50, [50], "/root")),
        ("4242", (4242, 0, [0], "/")),
        ("4242:4343", (4242, 4343, [4343], "/")),
        ("4242:staff", (4242, 50, [50], "/")),
        ("1234", (5, 6, [6], "/five")),
        ("homeless", (7, 8, [8], "/")),
        ("nohome", (9, 9, [9], "/")),
        ("4294967294", (4294967294, 0, [0], "/")),
    ],
)
def test_users(image: pathlib.Path, text: str, expected: tuple[int, int, list[int], str]) -> None:
    assert resolve(image, text) == expected


@pytest.mark.parametrize(
    "text",
    ["bogus", "short", "broken", "super", "huge", "hugegid", "# a comment", "alice:bogus", "alice:broken", "alice:huge",
     "-1", "+1", "1.0", "4294967295", "4242:4294967295", "9" * 100, "\u00b2", "\u0663", "alice:\u00b2", "alice:-1",
     "a:b:c"],
)  # fmt: skip
def test_what_is_nobody(image: pathlib.Path, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(image, text)
    assert caught.value.step == "--user"
    assert caught.value.hint


def replace_fifo(path: pathlib.Path) -> None:
    os.mkfifo(path)


def replace_directory(path: pathlib.Path) -> None:
    path.mkdir()


def replace_loop(path: pathlib.Path) -> None:
    path.symlink_to(path.name)


def replace_magic_link(path: pathlib.Path) -> None:
    path.symlink_to("/proc/self/environ")


def replace_binary(path: pathlib.Path) -> None:
    path.write_bytes(os.urandom(4096) + b"\nalice:x\xff:\0:::\n")


def replace_nothing(path: pathlib.Path) -> None:
    pass


@pytest.mark.parametrize(
    "replace",
    [replace_fifo, replace_directory, replace_loop, replace_magic_link, replace_binary, replace_nothing],
)
def test_a_hostile_file_only_costs_its_names(image: pathlib.Path, replace: Callable[[pathlib.Path], None]) -> None:
    for name in ("passwd", "group"):
        (image / "etc" / name).unlink()
        replace(image / "etc" / name)
    assert resolve(image, "1000:50") == (1000, 50, [50], "/")
    with pytest.raises(UsageError):
        resolve(image, "alice")


def test_a_link_never_leads_out_of_the_image(image: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "passwd"
    outside.write_text("mallory:x:666:666::/:\n")
    passwd = image / "etc/passwd"
    passwd.unlink()
    for target in (str(outside), os.path.relpath(outside, passwd.parent), f"../../../../../..{outside}"):
        passwd.symlink_to(target)
        with pytest.raises(UsageError):
            resolve(image, "mallory")
        passwd.unlink()
    # Followed with the image as /, the same link is fine where the image has such a file.
    inside = image / str(outside)[1:]
    inside.parent.mkdir(parents=True)
    inside.write_text("insider:x:77:77::/in:\n")
    passwd.symlink_to(outside)
    assert resolve(image, "insider") == (77, 77, [77], "/in")


def test_a_directory_that_is_a_link_never_leads_out(
    image: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "passwd").write_text("mallory:x:666:666::/:\n")
    (image / "etc").rename(image / "etc.old")
    (image / "etc").symlink_to(outside)
    with pytest.raises(UsageError):
        resolve(image, "mallory")


def test_a_huge_file_is_read_only_so_far(image: pathlib.Path) -> None:
    with (image / "etc/passwd").open("wb") as file:
        file.write(b"early:x:21:22::/early:\n")
        file.truncate(64 << 30)  # sparse: costs nothing unless somebody reads it all
    assert resolve(image, "early") == (21, 22, [22], "/early")


def test_reading_stops_at_the_limit(image: pathlib.Path) -> None:
    (image / "big").write_bytes(b"x" * 200_000)
    root = os.open(image, os.O_PATH | os.O_DIRECTORY)
    try:
        assert len(root_path.read_in_root(root, "/big", 100_000)) == 100_000
        assert len(root_path.read_in_root(root, "big", 1 << 20)) == 200_000
        with pytest.raises(OSError, match="not a regular file"):
            root_path.read_in_root(root, "/etc", 10)
        with pytest.raises(FileNotFoundError):
            root_path.read_in_root(root, "/missing", 10)
    finally:
        os.close(root)


class TestPathsInARoot:
    """open_in_root and what is built on it: nothing is ever made or opened outside."""

    @pytest.fixture
    def root(self, tmp_path: pathlib.Path) -> Iterator[int]:
        inside, outside = tmp_path / "root", tmp_path / "outside"
        inside.mkdir()
        outside.mkdir()
        descriptor = os.open(inside, os.O_PATH | os.O_DIRECTORY)
        yield descriptor
        os.close(descriptor)
        assert not list(outside.iterdir())

    def test_directories_are_made(self, root: int, tmp_path: pathlib.Path) -> None:
        os.close(root_path.make_directories(root, "/a/b/c"))
        os.close(root_path.make_directories(root, "/a/b/c/"))
        os.close(root_path.make_directories(root, "/"))
        assert (tmp_path / "root/a/b/c").is_dir()

    def test_files_are_made_once(self, root: int, tmp_path: pathlib.Path) -> None:
        os.close(root_path.make_file(root, "/x/y"))
        (tmp_path / "root/x/y").write_text("kept")
        os.close(root_path.make_file(root, "/x/y"))
        assert (tmp_path / "root/x/y").read_text() == "kept"

    @pytest.mark.parametrize("path", ["/link/x", "/../../outside/x", "/link/../outside/x"])
    def test_links_and_dots_stay_inside(self, root: int, tmp_path: pathlib.Path, path: str) -> None:
        (tmp_path / "root/link").symlink_to(tmp_path / "outside")
        for make in (root_path.make_directories, root_path.make_file):
            try:
                os.close(make(root, path))
            except OSError:
                pass

    @pytest.mark.parametrize(
        ("path", "target", "made"),
        [
            ("/link", "/outside/new", "outside/new"),
            ("/link", "../outside/new", "outside/new"),
            ("/etc/link", "../run/new", "run/new"),
            ("/etc/link", "new", "etc/new"),
            ("/etc/link", "../../../../outside/new", "outside/new"),
            ("/moved/link", "../new", "new"),
        ],
    )
    def test_a_dangling_link_is_followed_inside(
        self, root: int, tmp_path: pathlib.Path, path: str, target: str, made: str
    ) -> None:
        """Images have /etc/resolv.conf as such a link; `TestPathsInARoot.root` looks that nothing is made outside."""
        inside = tmp_path / "root"
        (inside / "etc").mkdir()
        (inside / "moved").symlink_to("/etc")
        (inside / "etc/link").symlink_to(target)
        (inside / "link").symlink_to(target)
        os.close(root_path.make_file(root, path))
        assert (inside / made).read_bytes() == b""
        assert stat.S_ISREG((inside / made).lstat().st_mode)

    def test_a_dangling_link_is_made_into_no_directory(self, root: int, tmp_path: pathlib.Path) -> None:
        (tmp_path / "root/link").symlink_to(tmp_path / "outside/new")
        with pytest.raises(OSError):
            root_path.make_directories(root, "/link")

    def test_links_are_not_followed_where_they_may_not(self, root: int, tmp_path: pathlib.Path) -> None:
        inside = tmp_path / "root"
        (inside / "dangling").symlink_to("/new")
        (inside / "moved").symlink_to("/place")
        (inside / "place").mkdir()
        for path in ("/dangling", "/moved/new"):
            for make in (root_path.make_directories, root_path.make_file):
                with pytest.raises(OSError) as caught:
                    make(root, path, symlinks=False)
                assert caught.value.errno == errno.ELOOP, (path, make)
        assert sorted(os.listdir(inside)) == ["dangling", "moved", "place"]
        assert os.listdir(inside / "place") == []

    def test_a_loop_of_links_ends(self, root: int, tmp_path: pathlib.Path) -> None:
        (tmp_path / "root/a").symlink_to("/b")
        (tmp_path / "root/b").symlink_to("/a")
        with pytest.raises(OSError) as caught:
            root_path.make_file(root, "/a")
        assert caught.value.errno == errno.ELOOP

    def test_a_file_in_the_way_is_an_error(self, root: int, tmp_path: pathlib.Path) -> None:
        (tmp_path / "root/file").touch()
        with pytest.raises(NotADirectoryError):
            root_path.make_directories(root, "/file/x")
        with pytest.raises(NotADirectoryError):
            root_path.make_directories(root, "/file")

    def test_descriptors_close_on_exec(self, root: int) -> None:
        descriptor = root_path.make_directories(root, "/a")
        try:
            assert not os.get_inheritable(descriptor)
        finally:
            os.close(descriptor)


def test_more_groups_than_the_kernel_takes(image: pathlib.Path) -> None:
    lines = [f"g:x:{number}:alice\n" for number in range(2000, 2000 + 65536)]
    (image / "etc/group").write_text("".join(lines[:40000]))
    assert len(resolve(image, "alice")[2]) == 40001
    (image / "etc/group").write_text("".join(f"::{number}:alice\n" for number in range(66000)))
    with pytest.raises(UsageError, match=r"in 6\d+ groups, and the kernel takes 65536"):
        resolve(image, "alice")
    assert resolve(image, "alice:7")[2] == [7]
