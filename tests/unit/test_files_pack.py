"""Files become a tar archive that every tar reads, whatever they are called and whoever changes them meanwhile."""

from __future__ import annotations

import io
import os
import pathlib
import stat
import subprocess
import tarfile
from collections.abc import Callable

import pytest

from pycontainer.errors import ImageError
from pycontainer.image.pack import Packer

NAMES = [b"plain", b"n" * 100, b"n" * 101, b"n" * 255, "größe".encode(), b"\xff\xfe raw", b"new\nline=1", b" ", b"BZh9"]


def packed(directory: pathlib.Path, **options) -> bytes:
    out = io.BytesIO()
    packer = Packer(out.write, **options)
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    try:
        packer.add_contents(descriptor)
        packer.finish()
    finally:
        os.close(descriptor)
    return out.getvalue()


def members(data: bytes) -> dict[bytes, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data), encoding="utf-8", errors="surrogateescape") as archive:
        return {os.fsencode(member.name): member for member in archive}


def content(data: bytes, name: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return archive.extractfile(name).read()


def set_user_xattr(path: pathlib.Path, name: str, value: bytes) -> None:
    try:
        os.setxattr(path, name, value)
    except OSError as error:
        pytest.skip(f"no user xattrs on {path.parent}: {error.strerror}")


def gnu_tar(data: bytes, target: pathlib.Path, *options: str) -> None:
    result = subprocess.run(["tar", "-C", target, "-xp", *options], input=data, capture_output=True)
    assert (result.returncode, result.stderr) == (0, b"")


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_names(tmp_path: pathlib.Path, name: bytes) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "d").mkdir(parents=True)
    target.mkdir()
    for place in (source, source / "d"):
        with open(os.path.join(os.fsencode(place), name), "wb") as file:
            file.write(name)
    data = packed(source)
    assert set(members(data)) == {name, b"d", b"d/" + name}
    gnu_tar(data, target)
    with open(os.path.join(os.fsencode(target), b"d", name), "rb") as file:
        assert file.read() == name


def test_long_link_targets(tmp_path: pathlib.Path) -> None:
    os.symlink("x" * 300, tmp_path / "link")
    os.symlink(b"\xfe", os.fsencode(tmp_path / "raw"))
    found = members(packed(tmp_path))
    assert found[b"link"].linkname == "x" * 300
    assert os.fsencode(found[b"raw"].linkname) == b"\xfe"


def test_attributes(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("1")
    (tmp_path / "file").chmod(0o6751)
    (tmp_path / "sticky").mkdir()
    (tmp_path / "sticky").chmod(0o1777)
    os.mkfifo(tmp_path / "fifo", 0o640)
    for name, time in (("file", 1_234_567_890_123_456_789), ("sticky", -1_500_000_000), ("fifo", 5 * 10**9)):
        os.utime(tmp_path / name, ns=(0, time))
    found = members(packed(tmp_path))
    assert [found[name].mode for name in (b"file", b"sticky", b"fifo")] == [0o6751, 0o1777, 0o640]
    assert found[b"file"].pax_headers["mtime"] == "1234567890.123456789"
    assert found[b"sticky"].pax_headers["mtime"] == "-1.5"
    assert "mtime" not in found[b"fifo"].pax_headers or found[b"fifo"].pax_headers["mtime"] == "5"
    assert found[b"fifo"].isfifo()
    assert (found[b"file"].uid, found[b"file"].gid) == (os.getuid(), os.getgid())


def test_extended_attributes(tmp_path: pathlib.Path) -> None:
    value = bytes(range(256))
    (tmp_path / "file").touch()
    set_user_xattr(tmp_path / "file", "user.all", value)
    data = packed(tmp_path)
    found = members(data)[b"file"].pax_headers["SCHILY.xattr.user.all"]
    assert found.encode("utf-8", "surrogateescape") == value
    (tmp_path / "out").mkdir()
    gnu_tar(data, tmp_path / "out", "--xattrs")
    assert os.getxattr(tmp_path / "out/file", "user.all") == value


def test_hard_links(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a").write_text("once")
    (tmp_path / "d").mkdir()
    os.link(tmp_path / "a", tmp_path / "d/b")
    found = members(packed(tmp_path))
    assert found[b"d/b"].islnk()
    assert found[b"d/b"].linkname == "a"


def test_sockets_are_left_out(tmp_path: pathlib.Path) -> None:
    os.mknod(tmp_path / "socket", stat.S_IFSOCK | 0o600)
    assert members(packed(tmp_path)) == {}


def test_the_same_files_give_the_same_bytes(tmp_path: pathlib.Path) -> None:
    for name in ("b", "a", "c"):
        (tmp_path / name).write_text(name)
    first = packed(tmp_path)
    for name in ("c", "a", "b"):
        status = os.stat(tmp_path / name)
        (tmp_path / name).unlink()
        (tmp_path / name).write_text(name)
        os.utime(tmp_path / name, ns=(0, status.st_mtime_ns))
    assert packed(tmp_path) == first
    assert len(first) % 10240 == 0


@pytest.mark.parametrize("sparse", [False, True])
def test_holes(tmp_path: pathlib.Path, sparse: bool) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    with open(source / "file", "wb") as file:
        file.write(b"x" * 5000)
        file.seek(10 << 20)
        file.write(b"y" * 70000)
        file.truncate(20 << 20)
    (source / "hole").touch()
    os.truncate(source / "hole", 1 << 20)
    data = packed(source, sparse=sparse)
    assert (len(data) < 1 << 20) == sparse
    for name in ("file", "hole"):
        assert content(data, name) == (source / name).read_bytes()
    gnu_tar(data, target)
    assert (target / "file").read_bytes() == (source / "file").read_bytes()
    assert (target / "hole").read_bytes() == (source / "hole").read_bytes()


def test_a_file_larger_than_the_size_field(tmp_path: pathlib.Path) -> None:
    class Enough(Exception):
        pass

    out = bytearray()

    def write(data: bytes) -> None:
        out.extend(data)
        if len(out) > 1 << 20:
            raise Enough

    (tmp_path / "huge").touch()
    os.truncate(tmp_path / "huge", 9 << 30)
    packer = Packer(write)
    descriptor = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    with pytest.raises(Enough):
        packer.add_contents(descriptor)
    os.close(descriptor)
    with tarfile.open(fileobj=io.BytesIO(out)) as archive:
        assert archive.next().size == 9 << 30


def during(out: io.BytesIO, name: bytes, act: Callable[[], None]) -> Packer:
    """A packer that calls `act` once, when it has written the header of `name`."""

    left = [act]

    def write(data: bytes) -> None:
        out.write(data)
        if left and len(data) == 512 and data.startswith(name + b"\0"):
            left.pop()()

    return Packer(write)


def test_a_file_that_becomes_shorter_is_filled_up(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * 10000)
    out = io.BytesIO()
    packer = during(out, b"file", lambda: os.truncate(file, 3))
    descriptor = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    packer.add_contents(descriptor)
    packer.finish()
    os.close(descriptor)
    assert content(out.getvalue(), "file") == b"xxx" + bytes(9997)


def test_a_file_that_grows_is_cut_off(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * 1000)
    (tmp_path / "later").write_text("whole")
    out = io.BytesIO()
    packer = during(out, b"file", lambda: os.truncate(file, 100000))
    descriptor = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    packer.add_contents(descriptor)
    packer.finish()
    os.close(descriptor)
    assert content(out.getvalue(), "file") == b"x" * 1000
    assert content(out.getvalue(), "later") == b"whole"


def test_what_vanishes_is_left_out(tmp_path: pathlib.Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).touch()
    out = io.BytesIO()
    packer = during(out, b"a", (tmp_path / "b").unlink)
    descriptor = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    packer.add_contents(descriptor)
    packer.finish()
    os.close(descriptor)
    assert list(members(out.getvalue())) == [b"a", b"c"]


def test_a_tree_that_is_too_deep_is_refused(tmp_path: pathlib.Path) -> None:
    os.makedirs(tmp_path / "/".join("d" * 257))
    assert len(members(packed(tmp_path / "d"))) == 256
    with pytest.raises(ImageError, match="levels deep"):
        packed(tmp_path)


def test_an_error_names_the_member(tmp_path: pathlib.Path) -> None:
    descriptor = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    with pytest.raises(FileNotFoundError) as caught:
        Packer(lambda data: None).add_tree(descriptor, b"gone", b"name/in/archive")
    os.close(descriptor)
    assert caught.value.filename == "name/in/archive"


def test_contents_of_hollow_directories_are_left_out(tmp_path: pathlib.Path) -> None:
    (tmp_path / "r/proc").mkdir(parents=True)
    (tmp_path / "r/proc/1").touch()
    (tmp_path / "r/var/proc/x").mkdir(parents=True)
    out = io.BytesIO()
    packer = Packer(out.write)
    descriptor = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    packer.add_tree(descriptor, b"r", b"copy", frozenset([b"copy/proc"]))
    packer.finish()
    os.close(descriptor)
    assert list(members(out.getvalue())) == [b"copy", b"copy/proc", b"copy/var", b"copy/var/proc", b"copy/var/proc/x"]


def test_another_owner_takes_no_rights_along(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "file").chmod(0o6755)
    other = (os.getuid() + 1, os.getgid() + 1)
    found = members(packed(tmp_path, owner=other))[b"file"]
    assert (found.uid, found.gid, found.mode) == (*other, 0o755)
    same = (os.getuid(), os.getgid())
    assert members(packed(tmp_path, owner=same))[b"file"].mode == 0o6755


def test_ids_beyond_the_fields_of_the_header(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").touch()
    found = members(packed(tmp_path, owner=(1 << 31, 8**7 - 1)))[b"file"]
    assert (found.uid, found.gid) == (1 << 31, 8**7 - 1)
