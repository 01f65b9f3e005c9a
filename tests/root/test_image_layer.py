"""One layer's tar, unpacked for real: what it holds is kept, and what is hostile is refused by its member's name."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import random
import shutil
import sqlite3
import stat
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from conftest import DISK, new_directory

from pycontainer.errors import ImageError, PycontainerError, StepFailed
from pycontainer.image import layer as layer_module
from pycontainer.image.importer import import_tarball
from pycontainer.image.load import load
from pycontainer.image.store import SCHEMA, Store

ALPINE = Path(__file__).parents[2].parent / "shared/images/alpine-minirootfs-3.20.3-x86_64.tar.gz"
CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")  # cap_net_bind_service+ep


class LayerTar:
    """A layer's tar in the making."""

    def __init__(self, format: int = tarfile.PAX_FORMAT) -> None:
        self.buffer = io.BytesIO()
        self.tar = tarfile.open(  # noqa: SIM115
            fileobj=self.buffer, mode="w", format=format, encoding="utf-8", errors="surrogateescape"
        )

    def add(self, name: str, data: bytes = b"", type: bytes = tarfile.REGTYPE, **fields: Any) -> LayerTar:
        member = tarfile.TarInfo(name)
        member.type, member.size, member.mtime = type, len(data), 1_600_000_000
        for field, value in fields.items():
            setattr(member, field, value)
        self.tar.addfile(member, io.BytesIO(data))
        return self

    def directory(self, name: str, mode: int = 0o755, **fields: Any) -> LayerTar:
        return self.add(name, type=tarfile.DIRTYPE, mode=mode, **fields)

    def symlink(self, name: str, target: str, **fields: Any) -> LayerTar:
        return self.add(name, type=tarfile.SYMTYPE, linkname=target, **fields)

    def link(self, name: str, target: str, **fields: Any) -> LayerTar:
        return self.add(name, type=tarfile.LNKTYPE, linkname=target, **fields)

    def data(self) -> bytes:
        self.tar.close()
        return self.buffer.getvalue()


def docker_archive(layers: list[bytes], name: str = "test:latest", compress: Callable[[bytes], bytes] = bytes) -> bytes:
    """A docker archive in the old layout; the layers are given uncompressed."""
    archive = LayerTar(tarfile.USTAR_FORMAT)
    names = [f"{index}/layer.tar" for index in range(len(layers))]
    for member, data in zip(names, layers, strict=True):
        archive.add(member, compress(data))
    diff_ids = [f"sha256:{hashlib.sha256(data).hexdigest()}" for data in layers]
    config = json.dumps({"os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}}).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    archive.add(config_name, config)
    manifest = [{"Config": config_name, "RepoTags": [name], "Layers": names}]
    return archive.add("manifest.json", json.dumps(manifest).encode()).data()


def open_store(root: str) -> Store:
    connection = sqlite3.connect(f"{root}/database", isolation_level=None, timeout=60)
    connection.executescript(SCHEMA)
    return Store(root, connection)


def snapshot(store: Store) -> dict[str, Any]:
    """Everything in the store: the database's rows, and each path with its type and content.

    Not the database's journal, which a killed load may leave, and which counts for nothing once the rows could be read.
    """
    found: dict[str, Any] = {"rows": list(store.connection.iterdump())}
    for directory, directories, files in os.walk(store.root):
        for name in directories + files:
            path = os.path.join(directory, name)
            if path == f"{store.root}/database-journal":
                continue
            status = os.lstat(path)
            regular = stat.S_ISREG(status.st_mode) and not path.startswith(f"{store.root}/database")
            content = Path(path).read_bytes() if regular else b""
            found[path] = (status.st_mode, status.st_uid, content)
    return found


@pytest.fixture
def store() -> Iterator[Store]:
    root = new_directory()
    store = open_store(str(root))
    store.make_directories()
    yield store
    store.connection.close()
    shutil.rmtree(root)


@pytest.fixture
def unpack(store: Store) -> Callable[..., list[Path]]:
    """Load layers and give their directories, base first."""

    def unpack(*layers: bytes, compress: Callable[[bytes], bytes] = bytes, **options: Any) -> list[Path]:
        load(store, io.BytesIO(docker_archive(list(layers), compress=compress)), **options)
        assert os.listdir(store.tmp) == []
        return [Path(path) for path in store.resolve("test").layers]

    return unpack


# What is kept


def test_owners_modes_and_times(unpack: Callable[..., list[Path]]) -> None:
    tar = LayerTar().directory("tmp", 0o1777).directory("home/u", 0o2750, uid=1000, gid=1001)
    tar.add("bin/su", b"x", mode=0o4755, uid=0, gid=7).add("home/u/f", b"abc", mode=0o2640, uid=123456, gid=4294967294)
    tar.symlink("home/u/link", "f", uid=5, gid=6)
    tar.add("ns", pax_headers={"mtime": "1234567890.123456789"})
    tar.directory("old", pax_headers={"mtime": "-1.5"}).add("old/inside")
    (root,) = unpack(tar.data())
    expected = {"tmp": (0o1777, 0, 0), "home/u": (0o2750, 1000, 1001), "bin/su": (0o4755, 0, 7)}
    expected["home/u/f"] = (0o2640, 123456, 4294967294)
    for name, attributes in expected.items():
        status = os.lstat(root / name)
        assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == attributes, name
        assert status.st_mtime == 1_600_000_000, name
    status = os.lstat(root / "home/u/link")
    assert (status.st_uid, status.st_gid, status.st_mtime) == (5, 6, 1_600_000_000)
    assert os.stat(root / "ns").st_mtime_ns == 1_234_567_890_123_456_789
    assert os.stat(root / "old").st_mtime_ns == -1_500_000_000


def test_links_devices_and_xattrs(unpack: Callable[..., list[Path]]) -> None:
    tar = LayerTar().add("a/file", b"data").directory("b").link("b/hard", "a/file").link("b/hard2", "./b/hard")
    tar.symlink("absolute", "/etc/passwd").symlink("up", "../../../etc/passwd").link("hard-to-symlink", "absolute")
    tar.add("dev/null", type=tarfile.CHRTYPE, mode=0o666, devmajor=1, devminor=3)
    tar.add("dev/loop", type=tarfile.BLKTYPE, mode=0o660, devmajor=7, devminor=300, gid=6)
    tar.add("fifo", type=tarfile.FIFOTYPE, mode=0o600)
    records = {
        "SCHILY.xattr.user.note": "v\0w\udcff",
        "SCHILY.xattr.security.capability": CAPABILITY.decode("utf-8", "surrogateescape"),
        "SCHILY.xattr.trusted.overlay.redirect": "/elsewhere",
    }
    tar.add("bin/ping", b"x", mode=0o755, uid=3, pax_headers=records)
    tar.directory("d", pax_headers={"SCHILY.xattr.user.dir": "1"})
    (root,) = unpack(tar.data())
    assert len({os.lstat(root / name).st_ino for name in ("a/file", "b/hard", "b/hard2")}) == 1
    assert os.readlink(root / "absolute") == os.readlink(root / "hard-to-symlink") == "/etc/passwd"
    assert os.readlink(root / "up") == "../../../etc/passwd"
    null, loop = os.stat(root / "dev/null"), os.stat(root / "dev/loop")
    assert (null.st_mode, null.st_rdev) == (stat.S_IFCHR | 0o666, os.makedev(1, 3))
    assert (loop.st_mode, loop.st_rdev, loop.st_gid) == (stat.S_IFBLK | 0o660, os.makedev(7, 300), 6)
    assert stat.S_ISFIFO(os.stat(root / "fifo").st_mode)
    assert os.getxattr(root / "bin/ping", "user.note") == b"v\0w\xff"
    assert os.getxattr(root / "bin/ping", "security.capability") == CAPABILITY
    assert "trusted.overlay.redirect" not in os.listxattr(root / "bin/ping")
    assert os.getxattr(root / "d", "user.dir") == b"1"


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_names(unpack: Callable[..., list[Path]], format: int) -> None:
    long = "/".join(["d" * 100] * 4 + ["f" * 200])
    odd = b"not-utf8-\xff\xfe".decode("utf-8", "surrogateescape")
    tar = LayerTar(format).add(long, b"long").add(odd, b"odd").symlink("s", "t" * 300).add("./a//./b", b"ab")
    tar.add(".wh", b"plain").add("wh.x", b"plain")
    (root,) = unpack(tar.data())
    assert (root / long).read_bytes() == b"long"
    assert Path(os.fsdecode(os.fsencode(root) + b"/not-utf8-\xff\xfe")).read_bytes() == b"odd"
    assert os.readlink(root / "s") == "t" * 300
    assert (root / "a/b").read_bytes() == b"ab"
    assert (root / ".wh").read_bytes() == (root / "wh.x").read_bytes() == b"plain"


@pytest.mark.parametrize("format", [["--format=gnu"], ["--format=pax"], ["--format=pax", "--sparse-version=0.1"]])
def test_sparse_files_are_holes(unpack: Callable[..., list[Path]], tmp_path: Path, format: list[str]) -> None:
    sparse = tmp_path / "sparse"
    with open(sparse, "wb") as file:
        for index in range(40):  # more regions than fit into the first header
            file.seek(index << 20)
            file.write(b"%d" % index)
        file.truncate(64 << 20)
    (tmp_path / "after").write_bytes(b"after")
    command = ["tar", "-C", str(tmp_path), "-cSf", "-", *format, "sparse", "after"]
    (root,) = unpack(subprocess.run(command, check=True, capture_output=True).stdout)
    assert (root / "sparse").read_bytes() == sparse.read_bytes()
    assert os.stat(root / "sparse").st_blocks * 512 < 4 << 20
    assert (root / "after").read_bytes() == b"after"


def test_members_that_replace_earlier_ones(unpack: Callable[..., list[Path]], tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    tar = LayerTar().symlink("link", str(victim)).add("link", b"file")
    tar.add("file", b"1").directory("file", 0o700).directory("dir/sub").add("dir/sub/f", b"2").add("dir", b"now a file")
    tar.add("one", b"first").link("two", "one").add("one", b"second")
    tar.directory("real").symlink("swap", "real").directory("swap").add("swap/f", b"3")
    (root,) = unpack(tar.data())
    assert victim.read_text() == "untouched"
    assert (root / "link").read_bytes() == b"file" and not (root / "link").is_symlink()
    assert (root / "file").is_dir() and (root / "dir").read_bytes() == b"now a file"
    assert (root / "one").read_bytes() == b"second" and (root / "two").read_bytes() == b"first"
    assert not (root / "swap").is_symlink() and not (root / "real/f").exists()


def test_a_symlink_inside_the_layer_is_followed(unpack: Callable[..., list[Path]]) -> None:
    tar = LayerTar().directory("usr/lib").symlink("lib", "usr/lib").add("lib/x", b"x").link("hard", "lib/x")
    tar.symlink("usr/up", "../usr/./lib").add("usr/up/y", b"y")
    (root,) = unpack(tar.data())
    assert (root / "usr/lib/x").read_bytes() == b"x" and (root / "lib").is_symlink()
    assert (root / "usr/lib/y").read_bytes() == b"y"
    assert os.stat(root / "hard").st_ino == os.stat(root / "usr/lib/x").st_ino


def is_whiteout(path: Path) -> bool:
    status = os.lstat(path)
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


@pytest.mark.parametrize("whiteouts_first", [True, False])
def test_whiteouts(unpack: Callable[..., list[Path]], whiteouts_first: bool) -> None:
    base = LayerTar()
    for name in ("gone", "etc/gone", "kept", "again", "dir/old", "opaque/old"):
        base.add(name, b"base")
    top = LayerTar()

    def whiteouts() -> None:
        for name in (".wh.gone", "etc/.wh.gone", ".wh.again", ".wh.dir", "opaque/.wh..wh..opq", ".wh..wh.plnk"):
            top.add(name)

    if whiteouts_first:
        whiteouts()
    top.add("again", b"top").add("dir/new", b"top").add("opaque/new", b"top")
    if not whiteouts_first:
        whiteouts()
    lower, upper = unpack(base.data(), top.data())
    assert is_whiteout(upper / "gone") and is_whiteout(upper / "etc/gone")
    assert (upper / "again").read_bytes() == b"top"
    assert not list(upper.rglob(".wh.*"))
    with tempfile.TemporaryDirectory(dir=DISK) as merged:
        subprocess.run(["mount", "-t", "overlay", "none", "-o", f"lowerdir={upper}:{lower}", merged], check=True)
        try:
            files = {str(path.relative_to(merged)) for path in Path(merged).rglob("*") if path.is_file()}
        finally:
            subprocess.run(["umount", merged], check=True)
    assert files == {"kept", "again", "dir/new", "opaque/new"}


def test_whiteouts_in_the_base_layer_are_dropped(unpack: Callable[..., list[Path]]) -> None:
    (root,) = unpack(LayerTar().add(".wh.x").add("d/.wh..wh..opq").add("f").data())
    assert os.listdir(root) == ["f"]


def test_implied_directories_look_like_the_lower_ones(unpack: Callable[..., list[Path]]) -> None:
    base = LayerTar().directory("./", 0o711, uid=9).directory("srv", 0o750, uid=33, gid=34).directory("srv/a", 0o1777)
    base.symlink("link", "/tmp").directory("hidden", 0o700, uid=3)
    middle = LayerTar().add("srv/a/one", b"").add("alone/f").add(".wh.hidden")
    top = LayerTar().add("srv/a/two", b"").add("link/f").add("hidden/f")
    layers = unpack(base.data(), middle.data(), top.data())
    for root in layers:
        for name, mode, uid in (("", 0o711, 9), ("srv", 0o750, 33), ("srv/a", 0o1777, 0)):
            status = os.stat(root / name)
            assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_mtime) == (mode, uid, 1_600_000_000), name
    for path in (layers[1] / "alone", layers[2] / "link", layers[2] / "hidden"):
        status = os.stat(path)
        assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o755, 0), path


@pytest.mark.parametrize(
    "compress",
    [
        bytes,
        gzip.compress,
        lambda data: gzip.compress(data[:700]) + gzip.compress(data[700:]),
        lambda data: zstandard.compress(data),
        lambda data: zstandard.compress(data[:700]) + zstandard.compress(data[700:]),
    ],
    ids=["plain", "gzip", "gzip-members", "zstd", "zstd-frames"],
)
def test_compression(unpack: Callable[..., list[Path]], compress: Callable[[bytes], bytes]) -> None:
    content = random.Random(1).randbytes(1 << 20)
    (root,) = unpack(LayerTar().add("f", content).add("empty").data(), compress=compress)
    assert (root / "f").read_bytes() == content and (root / "empty").read_bytes() == b""


def test_empty_layers(unpack: Callable[..., list[Path]]) -> None:
    layers = unpack(LayerTar().data(), LayerTar().add("f").data(), bytes(1024))
    assert [os.listdir(layer) for layer in layers] == [[], ["f"], []]


def test_alpine(store: Store) -> None:
    if not ALPINE.exists():
        pytest.skip(f"no {ALPINE.name}")
    with open(ALPINE, "rb") as file:
        import_tarball(store, file, "alpine")
    image = store.resolve("alpine")
    root = Path(image.layers[0])
    assert image.config["config"]["Cmd"] == ["/bin/sh"]
    assert (root / "etc/alpine-release").read_text() == "3.20.3\n"
    assert stat.S_IMODE(os.stat(root / "tmp").st_mode) == 0o1777
    assert os.readlink(root / "bin/sh") == "/bin/busybox" and (root / "bin/busybox").stat().st_size > 500_000
    with tarfile.open(ALPINE) as tar:
        names = {member.name.removeprefix("./").strip("/") for member in tar} - {"", "."}
    assert {str(path.relative_to(root)) for path in root.rglob("*")} == names


def test_nothing_is_imported_inside_the_layer(tmp_path: Path) -> None:
    """What a chrooted process imports would be code of the image."""
    tar = LayerTar().directory("d").add("d/f", b"x", pax_headers={"SCHILY.xattr.user.x": "y"}).symlink("s", "d")
    tar.add("s", b"1").directory("d2/e").add("d2", b"").link("l", "d/f").add(".wh.gone").add("é", b"")
    (tmp_path / "layer.tar.gz").write_bytes(gzip.compress(tar.data()))
    code = """if True:
        import os, sys
        from io import FileIO
        from pycontainer.image import unpack as module
        from pycontainer.image.layer import unpack
        from pycontainer.image.stream import ForwardStream
        stream = ForwardStream(FileIO("layer.tar.gz"), "layer", 1 << 30)
        os.mkdir("root"); os.chroot("root"); os.chdir("/")
        before = set(sys.modules)
        unpack(stream, False, True)
        print(sorted(set(sys.modules) - before))
    """
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": ":".join(sys.path)},
    )
    assert result.stdout == "[]\n", result.stderr


# What is refused


def raw_member(name: bytes, type: bytes = b"0", size: bytes = b"00000000000\0", data: bytes = b"") -> bytes:
    """A header that tarfile would not write."""
    header = bytearray(512)
    header[: len(name)] = name
    header[100:136] = b"0000644\0" + b"0000000\0" * 2 + size
    header[136:148] = b"00000000000\0"
    header[148:156] = b" " * 8
    header[156:157] = type
    header[257:265] = b"ustar\00000"
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + data + bytes(-len(data) % 512)


def flood(count: int, type: bytes) -> bytes:
    tar = LayerTar()
    for index in range(count):
        tar.add(f"d/{index}", type=type, devmajor=1, devminor=3)
    return tar.data()


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "dot dot": (lambda: LayerTar().add("../evil").data(), r"\.\./evil"),
    "dot dot inside": (lambda: LayerTar().add("a/../b").data(), r"a/\.\./b"),
    "absolute": (lambda: LayerTar().add("/etc/evil").data(), "/etc/evil"),
    "hard link outside": (lambda: LayerTar().link("evil", "../../etc/passwd").data(), "evil.*outside"),
    "hard link absolute": (lambda: LayerTar().link("evil", "/etc/passwd").data(), "evil.*outside"),
    "hard link to nothing": (lambda: LayerTar().link("evil", "etc/passwd").data(), "evil.*not in the layer"),
    "hard link through a symlink": (
        lambda: LayerTar().symlink("etc", "/etc").link("evil", "etc/passwd").data(),
        "evil.*symlink that leads outside",
    ),
    "hard link to a directory": (lambda: LayerTar().directory("d").link("evil", "d").data(), "evil.*a directory"),
    "through an absolute symlink": (lambda: LayerTar().symlink("d", "/etc").add("d/evil").data(), "d/evil.*symlink"),
    "through a climbing symlink": (lambda: LayerTar().symlink("d", "../..").add("d/evil").data(), "d/evil.*symlink"),
    "through two symlinks": (
        lambda: LayerTar().directory("a/b").symlink("a/b/c", "../..").symlink("x", "a/b/c/..").add("x/evil").data(),
        "x/evil.*symlink",
    ),
    "symlink loop": (lambda: LayerTar().symlink("a", "b").symlink("b", "a").add("a/evil").data(), "a/evil"),
    "whiteout of dot dot": (lambda: LayerTar().add("d/.wh...").data(), r"d/\.wh\.\.\.: a whiteout"),
    "whiteout of nothing": (lambda: LayerTar().add("d/.wh.").data(), r"d/\.wh\.: a whiteout"),
    "whiteout through a symlink": (lambda: LayerTar().symlink("d", "/etc").add("d/.wh.passwd").data(), "d/.wh.passwd"),
    "device flood": (lambda: flood(layer_module.MAX_DEVICES + 1, tarfile.CHRTYPE), "more than 4096 devices"),
    "fifo flood": (lambda: flood(layer_module.MAX_DEVICES + 1, tarfile.FIFOTYPE), "more than 4096 devices"),
    "too deep": (lambda: LayerTar().add("d/" * 300 + "f").data(), "components"),
    "name too long": (lambda: LayerTar().add("n" * 300).data(), "nnn.*name too long"),
    "root as a file": (lambda: LayerTar().add(".").data(), "root is not a directory"),
    "owner out of range": (lambda: LayerTar(tarfile.GNU_FORMAT).add("evil", uid=2**33).data(), "evil.*out of range"),
    "negative owner": (lambda: LayerTar(tarfile.GNU_FORMAT).add("evil", gid=-1).data(), "evil.*out of range"),
    "unknown type": (lambda: LayerTar().add("evil", type=b"V").data(), "evil.*not supported"),
    "negative size": (lambda: raw_member(b"evil", size=b"\xff" * 11 + b"\xf0") + bytes(1024), "negative|backwards"),
    "huge pax header": (
        lambda: raw_member(b"x", b"x", size=b"77777777777\0", data=b"1 a=b\n") + bytes(1024),
        "headers of one member exceed",
    ),
    "NUL in a name": (lambda: LayerTar().add("x", pax_headers={"path": "a\0b"}).data(), "NUL"),
    "bad time": (lambda: LayerTar().add("x", pax_headers={"mtime": "9" * 40}).data(), "x: "),
    "broken header": (
        lambda: LayerTar().add("good", b"x").data()[:1024] + b"\1" * 512 + bytes(1024),
        "corrupt or truncated",
    ),
    "truncated in data": (lambda: LayerTar().add("f", bytes(9999)).data()[:4096], "unexpected end|truncated"),
    "truncated in a header": (lambda: LayerTar().add("f").add("g").data()[:700], "corrupt or truncated"),
    "not a tar": (lambda: b"hello" * 1000, "corrupt or truncated"),
    "garbage at the end": (lambda: LayerTar().add("f").data() + b"garbage", "garbage after the end"),
    "sparse map beyond the size": (
        lambda: LayerTar().add("x", b"abc", pax_headers={"GNU.sparse.size": "2", "GNU.sparse.map": "0,3"}).data(),
        "sparse map",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_layers(store: Store, case: str) -> None:
    make, words = HOSTILE[case]
    archive = docker_archive([LayerTar().add("fine").data(), make()])
    before = snapshot(store)
    with pytest.raises(ImageError, match=words):
        load(store, io.BytesIO(archive))
    assert snapshot(store) == before


@pytest.mark.parametrize(
    ("compress", "words"),
    [
        (lambda data: gzip.compress(data)[:-20], "corrupt or truncated"),
        (lambda data: gzip.compress(data)[:-8] + bytes(8), "corrupt or truncated"),
        (lambda data: gzip.compress(data) + b"garbage", "corrupt or truncated"),
        (lambda data: zstandard.compress(data)[:-20], "truncated|unexpected end|diff id"),
        (lambda data: zstandard.compress(data) + b"garbage!", "corrupt or truncated"),
        (lambda data: b"\xfd7zXZ\0" + data, "xz compression is not supported"),
        (lambda data: b"BZh9" + data, "bzip2 compression is not supported"),
    ],
)
def test_broken_compression(store: Store, compress: Callable[[bytes], bytes], words: str) -> None:
    data = LayerTar().add("f", random.Random(2).randbytes(100_000)).data()
    before = snapshot(store)
    with pytest.raises(ImageError, match=words):
        load(store, io.BytesIO(docker_archive([data], compress=compress)))
    assert snapshot(store) == before


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress])
def test_bomb(store: Store, compress: Callable[[bytes], bytes]) -> None:
    bomb = LayerTar().add("zeros", bytes(64 << 20)).data()
    with pytest.raises(ImageError, match="more than 1048576 bytes unpacked"):
        load(store, io.BytesIO(docker_archive([bomb], compress=compress)), max_layer_size=1 << 20)
    with pytest.raises(ImageError, match="bytes unpacked"):
        load(store, io.BytesIO(compress(docker_archive([bomb]))), max_layer_size=1 << 20)
    assert os.listdir(store.tmp) == os.listdir(store.layers) == os.listdir(store.blobs) == []


def test_wrong_diff_id(store: Store) -> None:
    archive = docker_archive([LayerTar().add("f", b"A" * 100).data()]).replace(b"A" * 100, b"B" * 100)
    with pytest.raises(ImageError, match="diff id"):
        load(store, io.BytesIO(archive))
    assert os.listdir(store.layers) == []


def test_too_many_members(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_module, "MAX_MEMBERS", 10)
    with pytest.raises(ImageError, match="more than 10 members"):
        load(store, io.BytesIO(docker_archive([LayerTar().add("d/" * 11 + "f").data()])))


def test_full_disk(tmp_path: Path) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "none", str(mount)], check=True)
    try:
        store = open_store(str(mount))
        before = None
        for size in (8 << 20, 4 << 20):  # the archive does not fit; it does, and the unpacked layer does not
            store.make_directories()
            before = snapshot(store)
            with pytest.raises(PycontainerError, match="no space left on device") as caught:
                load(store, io.BytesIO(docker_archive([LayerTar().add("big", bytes(size)).data()])))
            assert isinstance(caught.value, StepFailed)
            assert snapshot(store) == before
        store.connection.close()
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def test_truncated_import(store: Store) -> None:
    """No digest says how long it should be: the end-of-archive marker must be there."""
    data = LayerTar().add("f", b"x").add("g", b"y").data()
    for cut in (1024, 1536, 2048):
        with pytest.raises(ImageError, match=r"truncated|unexpected end"):
            import_tarball(store, io.BytesIO(data[:cut]), "x")
    assert os.listdir(store.tmp) == os.listdir(store.blobs) == []
