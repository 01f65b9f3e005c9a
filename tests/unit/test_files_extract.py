"""A tar stream becomes files below a directory, and nowhere else, whatever is in it and whatever is there."""

from __future__ import annotations

import io
import os
import pathlib
import stat
import tarfile

import pytest

from pycontainer.errors import ImageError, PycontainerError, StepFailed
from pycontainer.image.extract import extract
from pycontainer.image.pack import Packer
from pycontainer.image.stream import ForwardStream
from pycontainer.image.tar import ForwardTar
from pycontainer.kernel.root_path import make_directories

OWNER = (os.getuid(), os.getgid())


def archive(*members: tuple[str, dict[str, object]], data: bytes = b"new") -> bytes:
    """A tar with these members; a regular one holds `data`."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, attributes in members:
            member = tarfile.TarInfo(name)
            for attribute, value in attributes.items():
                setattr(member, attribute, value)
            member.size = len(data) if member.isreg() else 0
            tar.addfile(member, io.BytesIO(data) if member.isreg() else None)
    return out.getvalue()


def directory(name: str, **attributes: object) -> tuple[str, dict[str, object]]:
    return name, {"type": tarfile.DIRTYPE, "mode": 0o755, **attributes}


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[str, dict[str, object]]:
    return name, {"type": kind, "linkname": target}


def put(target: pathlib.Path, data: bytes, **options) -> None:
    root = os.open(target, os.O_PATH | os.O_DIRECTORY)
    try:
        stream = ForwardStream(io.BytesIO(data), "stream", 1 << 40)
        extract(
            stream,
            lambda path: make_directories(root, path, symlinks=False),
            **{"owner": OWNER, "plain": True, **options},
        )
    finally:
        os.close(root)


def set_user_xattr(path: pathlib.Path, name: str, value: bytes) -> bool:
    """False where this file system has none: tmpfs before Linux 6.6."""
    try:
        os.setxattr(path, name, value)
        return True
    except OSError:
        return False


@pytest.fixture
def target(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


def test_what_packer_writes_comes_out_the_same(tmp_path: pathlib.Path, target: pathlib.Path) -> None:
    source = tmp_path / "source"
    (source / "sub/empty").mkdir(parents=True)
    (source / "sub").chmod(0o2750)
    (source / "file").write_bytes(os.urandom(600_000))
    os.link(source / "file", source / "sub/same")
    os.symlink("/nowhere", source / "link")
    os.mkfifo(source / "fifo", 0o640)
    has_xattrs = set_user_xattr(source / "file", "user.x", b"\0\xff")
    with open(source / "sparse", "wb") as file:
        file.seek(50 << 20)
        file.write(b"end")
        file.truncate(100 << 20)
    for path in sorted(source.rglob("*"), reverse=True):
        os.utime(path, ns=(0, 1_000_000_000_123_456_789), follow_symlinks=False)
    out = io.BytesIO()
    packer = Packer(out.write, sparse=True)
    descriptor = os.open(tmp_path, os.O_PATH)
    packer.add_tree(descriptor, b"source", b"copy")
    packer.finish()
    os.close(descriptor)
    put(target, out.getvalue(), plain=False)
    copy = target / "copy"
    for path in source.rglob("*"):
        before, after = os.lstat(path), os.lstat(copy / path.relative_to(source))
        fields = ("st_mode", "st_size", "st_mtime_ns", "st_nlink", "st_uid", "st_gid")
        assert [getattr(before, field) for field in fields] == [getattr(after, field) for field in fields], path
    assert (copy / "file").read_bytes() == (source / "file").read_bytes()
    assert os.path.samefile(copy / "file", copy / "sub/same")
    assert os.readlink(copy / "link") == "/nowhere"
    if has_xattrs:
        assert os.getxattr(copy / "file", "user.x") == b"\0\xff"
    assert os.stat(copy / "sparse").st_blocks * 512 < 1 << 20
    with open(copy / "sparse", "rb") as file:
        file.seek(50 << 20)
        assert file.read(4) == b"end\0"


@pytest.mark.parametrize(
    "members",
    [
        [("../out", {})],
        [("/abs", {})],
        [("a/../../out", {})],
        [link("hard", "../secret", tarfile.LNKTYPE)],
        [link("hard", "/etc/passwd", tarfile.LNKTYPE)],
        [link("hard", "hard", tarfile.LNKTYPE)],
        # Through a symbolic link that the stream itself has made, or that was there.
        [link("a", ".."), ("a/secret", {})],
        [("there/secret", {})],
        [directory("there/sub")],
        [directory("there")],
        [link("hard", "there/secret", tarfile.LNKTYPE)],
    ],
    ids=str,
)
def test_nothing_leads_outside(target: pathlib.Path, members: list[tuple[str, dict[str, object]]]) -> None:
    secret = target.parent / "secret"
    secret.write_text("old")
    os.symlink("..", target / "there")
    before = sorted(os.listdir(target.parent))
    with pytest.raises(PycontainerError):
        put(target, archive(*members))
    assert secret.read_text() == "old"
    assert os.stat(secret).st_nlink == 1
    assert sorted(os.listdir(target.parent)) == before


def test_a_symbolic_link_that_is_there_is_replaced_and_not_followed(target: pathlib.Path) -> None:
    secret = target.parent / "secret"
    secret.write_text("old")
    os.symlink(secret, target / "file")
    put(target, archive(("file", {})))
    assert secret.read_text() == "old"
    assert not os.path.islink(target / "file")
    assert (target / "file").read_text() == "new"


def test_a_fifo_that_is_there_is_replaced_and_not_opened(target: pathlib.Path) -> None:
    os.mkfifo(target / "file")
    put(target, archive(("file", {})))
    assert (target / "file").read_text() == "new"


def test_no_directory_gives_way_to_a_file_nor_a_file_to_a_directory(target: pathlib.Path) -> None:
    (target / "d").mkdir()
    (target / "f").write_text("old")
    for member in (("d", {}), link("d", "f"), link("d", "f", tarfile.LNKTYPE), directory("f")):
        with pytest.raises(ImageError):
            put(target, archive(member))
    assert (target / "d").is_dir()
    assert (target / "f").read_text() == "old"


def test_directories_are_merged(target: pathlib.Path) -> None:
    (target / "d").mkdir()
    (target / "d/old").write_text("old")
    put(target, archive(directory("d", mode=0o711, mtime=1000), ("d/new", {})))
    assert sorted(os.listdir(target / "d")) == ["new", "old"]
    assert stat.S_IMODE(os.stat(target / "d").st_mode) == 0o711
    assert os.stat(target / "d").st_mtime == 1000


def test_the_directory_itself_keeps_its_attributes(target: pathlib.Path) -> None:
    target.chmod(0o700)
    put(target, archive(directory(".", mode=0o777), ("./f", {})))
    assert stat.S_IMODE(os.stat(target).st_mode) == 0o700
    assert (target / "f").exists()


def test_plain_takes_no_rights_along(target: pathlib.Path) -> None:
    capability = bytes.fromhex("0100000200200000000000000000000000000000").decode("latin-1")
    headers = {"SCHILY.xattr.security.capability": capability, "SCHILY.xattr.user.x": "y"}
    put(target, archive(("file", {"mode": 0o6755, "pax_headers": headers})))
    assert stat.S_IMODE(os.stat(target / "file").st_mode) == 0o755
    assert "security.capability" not in os.listxattr(target / "file")
    for kind in (tarfile.CHRTYPE, tarfile.BLKTYPE):
        with pytest.raises(ImageError, match="device node"):
            put(target, archive(("device", {"type": kind, "devmajor": 1, "devminor": 3})))
    assert not (target / "device").exists()


def test_an_owner_out_of_range_is_refused(target: pathlib.Path) -> None:
    # -1 would leave the owner as it is: chown(2).
    with pytest.raises(ImageError, match="out of range"):
        put(target, archive(("file", {"uid": 2**32 - 1})), owner=None)


def test_a_stream_that_is_cut_off_leaves_no_half_file(target: pathlib.Path) -> None:
    data = archive(("file", {}), data=b"x" * 100_000)
    with pytest.raises(ImageError):
        put(target, data[:50_000])
    assert os.listdir(target) == []


def test_a_stream_without_its_end_is_refused(target: pathlib.Path) -> None:
    with pytest.raises(ImageError, match="end-of-archive"):
        put(target, archive(("file", {}))[:1024])


def test_a_name_that_is_too_long_is_an_error_that_names_it(target: pathlib.Path) -> None:
    with pytest.raises(StepFailed, match="file name too long"):
        put(target, archive(("x" * 300, {})))


def test_a_tree_that_is_too_deep_is_refused(target: pathlib.Path) -> None:
    with pytest.raises(ImageError, match="levels deep"):
        put(target, archive(("d/" * 300 + "f", {})))


def test_missing_directories_are_made(target: pathlib.Path) -> None:
    put(target, archive(("a/b/c", {})))
    assert (target / "a/b/c").read_text() == "new"


def header(name: str, kind: bytes = tarfile.REGTYPE, form: int = tarfile.PAX_FORMAT, **attributes: object) -> bytes:
    """One block: the last that tarfile writes of such a member, whose others are of pax records."""
    member = tarfile.TarInfo(name)
    for attribute, value in {"type": kind, "uname": "root", **attributes}.items():
        setattr(member, attribute, value)
    return member.tobuf(form, "utf-8", "surrogateescape")[-512:]


HEADERS = [
    header("file", mode=0o4755, uid=1000, gid=7, size=12345, mtime=1234567890),
    header("directory//", tarfile.DIRTYPE),
    header("n" * 100, tarfile.SYMTYPE, linkname="l" * 100),
    header("größe\udcff", tarfile.LNKTYPE, tarfile.USTAR_FORMAT, linkname="\udcff"),
    header("device", tarfile.CHRTYPE, devmajor=5, devminor=1),
    header("p" * 90 + "/" + "n" * 90, form=tarfile.USTAR_FORMAT),
    header("gnu", form=tarfile.GNU_FORMAT, uid=1 << 40, mtime=-1),
    header("old/", tarfile.AREGTYPE),
    header("other", b"7"),
]


@pytest.mark.parametrize("block", HEADERS, ids=range(len(HEADERS)))
def test_a_plain_header_is_read_as_tarfile_reads_it(block: bytes) -> None:
    theirs = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    ours = ForwardTar.tarinfo.frombuf(block, "utf-8", "surrogateescape")
    assert vars_of(ours) == vars_of(theirs)


@pytest.mark.parametrize("block", HEADERS, ids=range(len(HEADERS)))
@pytest.mark.parametrize("place", [0, 104, 128, 148, 156, 257, 300, 330, 345, 511])
def test_a_broken_header_is_none(block: bytes, place: int) -> None:
    broken = block[:place] + bytes([block[place] ^ 1]) + block[place + 1 :]
    with pytest.raises(tarfile.HeaderError):
        ForwardTar.tarinfo.frombuf(broken, "utf-8", "surrogateescape")


def vars_of(member: tarfile.TarInfo) -> dict[str, object]:
    return {name: getattr(member, name, None) for name in tarfile.TarInfo.__slots__}
