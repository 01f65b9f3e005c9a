"""Images that are made to do harm: to the store, to the memory, to the disk."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Pycontainer
from test_image_layer import LayerTar, docker_archive, snapshot, store  # noqa: F401

from pycontainer.errors import ImageError, PycontainerError
from pycontainer.image import importer, ingest, unpack, workspace
from pycontainer.image.extract import extract
from pycontainer.image.load import load
from pycontainer.image.store import Store
from pycontainer.image.stream import ForwardStream
from pycontainer.image.unpack import Layer
from pycontainer.kernel.root_path import make_directories

BASE = LayerTar().add("etc/base", b"base").data()
TOP = LayerTar().add("etc/top", b"top").data()
LAYER = LayerTar().add("file", b"content").data()


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def archive(layer: bytes = LAYER, name: str = "bad:1", **fields: Any) -> bytes:
    """A docker archive of one layer; `fields` as they stand in the config."""
    document = {"os": '"linux"', "rootfs": json.dumps({"type": "layers", "diff_ids": [digest(layer)]}), **fields}
    config = "{" + ",".join(f'"{key}":{value}' for key, value in document.items()) + "}"
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    tar = LayerTar(tarfile.USTAR_FORMAT).add("layer.tar", layer).add("config.json", config.encode())
    return tar.add("manifest.json", json.dumps(manifest).encode()).data()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"x": "NaN"}, "NaN"),
        ({"x": "-Infinity"}, "Infinity"),
        ({"x": "1e999"}, "out of range"),
        ({"x": "[" * 980 + "]" * 980}, "levels of objects and lists"),
        ({"created": r'"\ud800"'}, "half of a surrogate pair"),
        ({"config": r'{"Env": ["A=\udcff"]}'}, "half of a surrogate pair"),
    ],
)
def test_a_config_that_cannot_be_written_again(pycontainer: Pycontainer, fields: dict[str, str], words: str) -> None:
    refused = pycontainer("load", input=archive(**fields), text=False)
    assert refused.returncode == 1 and words in refused.stderr.decode()
    assert pycontainer("images", "-q", check=True).stdout == ""


def test_an_archive_that_names_its_image_like_an_id(pycontainer: Pycontainer) -> None:
    refused = pycontainer("load", input=archive(name=f"sha256:{'a' * 64}"), text=False)
    assert refused.returncode == 1 and b"not a valid image name" in refused.stderr


def test_a_store_with_a_broken_config(pycontainer: Pycontainer) -> None:
    """As an older pycontainer has taken it: the rest is listed, and it can be removed."""
    for name in ("good:1", "bad:1"):
        pycontainer("load", input=archive(name=name, author=f'"{name}"'), text=False, check=True)
    with sqlite3.connect(pycontainer.root / "db.sqlite") as database:
        config = json.dumps({"x": float("nan")})
        where = "id = (SELECT image_id FROM image_names WHERE familiar = 'bad:1')"
        database.execute(f"UPDATE images SET config = ? WHERE {where}", (config,))
    database.close()
    listed = pycontainer("images", "--format", "{{.Repository}}", check=True).stdout
    assert sorted(listed.split()) == ["bad", "good"]
    assert pycontainer("image", "inspect", "good:1").returncode == 0
    refused = pycontainer("image", "inspect", "bad:1")
    assert refused.returncode == 1 and "its config is not JSON (NaN" in refused.stderr and "rmi -f" in refused.stderr
    assert pycontainer("rmi", "-f", "bad:1", check=True).stdout.startswith("Untagged: bad:1")
    assert pycontainer("images", "--format", "{{.Repository}}", check=True).stdout.split() == ["good"]
    assert [path.name for path in Path(pycontainer.root, "tmp").iterdir()] == []


# What is in the store


def compress(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def seen(image_store: Store, name: str) -> set[str]:
    """What a container of that image has in its root."""
    layers = ":".join(reversed(image_store.resolve(name).layers))
    script = 'mount -t overlay overlay -o "lowerdir=$1" "$2" && find "$2" -mindepth 1 -printf "%P\\n"'
    with tempfile.TemporaryDirectory() as directory:
        command = ["unshare", "--mount", "sh", "-ec", script, "-", layers, directory]
        return set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())


def test_an_opaque_root_hides_all_the_layers_below(store: Store) -> None:  # noqa: F811
    base = LayerTar().add("a/old").add("b/old").add("file").add("gone").data()
    middle = LayerTar().add("c/old").add(".wh.gone").data()
    top = LayerTar().add("b/new").add(".wh..wh..opq").data()
    above = LayerTar().add("a/new").data()
    load(store, io.BytesIO(docker_archive([base, middle, top, above])))
    assert seen(store, "test") == {"a", "a/new", "b", "b/new"}
    assert not os.path.lexists(f"{store.resolve('test').layers[2]}/gone")
    again = LayerTar().add("d").add(".wh..wh..opq").data()
    load(store, io.BytesIO(docker_archive([base, middle, top, again], "again")))
    assert seen(store, "again") == {"d"}
    assert len(os.listdir(store.resolve("again").layers[3])) == 2, "what is hidden already needs no whiteout"


@pytest.mark.parametrize("garbage", [b"garbage", compress(b"garbage"), compress(TOP), compress(BASE)[:-9]])
def test_a_layer_that_the_store_has_is_verified_all_the_same(store: Store, garbage: bytes) -> None:  # noqa: F811
    load(store, io.BytesIO(docker_archive([BASE], "good")))
    before = snapshot(store)
    bad = docker_archive([BASE, TOP], "bad", lambda data: garbage if data == BASE else compress(data))
    with pytest.raises(ImageError, match=r"layer 1 of 2|read archive: layer 1"):
        load(store, io.BytesIO(bad))
    assert snapshot(store) == before


def test_a_layer_in_another_form_is_taken_and_the_same_form_is_not_read_again(
    store: Store,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    load(store, io.BytesIO(docker_archive([BASE], "good")))
    read: list[list[Layer]] = []
    original = workspace.unpack_layers
    monkeypatch.setattr(
        workspace, "unpack_layers", lambda layers, *rest: read.append(layers) or original(layers, *rest)
    )
    for name in ("first", "second"):
        load(store, io.BytesIO(docker_archive([BASE, TOP], name, compress)))
    assert [[layer.directory == "" for layer in layers] for layers in read] == [[True, False]]


def test_what_is_gone_from_the_disk_comes_back_with_the_image(store: Store) -> None:  # noqa: F811
    data = docker_archive([BASE, TOP], "test", compress)
    load(store, io.BytesIO(data))
    before = snapshot(store)
    image = store.resolve("test")
    shutil.rmtree(image.layers[1])
    (victim,) = [path for path in Path(store.blobs).iterdir() if path.read_bytes() == compress(BASE)]
    victim.unlink()
    load(store, io.BytesIO(data))
    assert snapshot(store) == before


def test_a_layer_that_is_gone_is_named(pycontainer: Pycontainer) -> None:
    pycontainer("load", input=archive(config='{"Cmd": ["/file"]}'), text=False, check=True)
    (layer,) = (pycontainer.root / "layers").iterdir()
    shutil.rmtree(layer)
    refused = pycontainer("run", "--rm", "--network", "none", "bad:1")
    assert refused.returncode == 125
    assert f"{layer}: the layer is not in the store any more" in refused.stderr and "load or import" in refused.stderr


# How much it takes of the disk

MIB = 1 << 20


class Written:
    """Counts what is written to the disk through `write_all` of one module."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, module: Any) -> None:
        self.bytes = 0
        original = module.write_all

        def count(descriptor: int, data: bytes) -> None:
            self.bytes += len(data)
            original(descriptor, data)

        monkeypatch.setattr(module, "write_all", count)


class Endless:
    """Zeros; fails the test when more is asked for than any limit here allows."""

    def __init__(self) -> None:
        self.left = 64 * MIB

    def read(self, size: int) -> bytes:
        self.left -= size
        assert self.left > 0
        return bytes(size)


def test_an_import_without_end(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    written = Written(monkeypatch, importer)
    with pytest.raises(ImageError, match=f"more than {MIB} bytes"):
        importer.import_tarball(store, Endless(), "zero", max_layer_size=MIB)
    assert written.bytes <= MIB and os.listdir(store.tmp) == []


def test_a_sparse_blob_of_a_layout(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    written = Written(monkeypatch, ingest)
    blobs = tmp_path / "blobs/sha256"
    blobs.mkdir(parents=True)
    (tmp_path / "index.json").write_text("{}")
    (blobs / ("0" * 64)).touch()
    os.truncate(blobs / ("0" * 64), 1 << 40)
    with pytest.raises(ImageError, match=f"more than {4 * MIB} bytes"):
        load(store, str(tmp_path), max_layer_size=MIB)
    assert written.bytes <= 4 * MIB and os.listdir(store.tmp) == []


def test_one_layer_named_many_times(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """Each time it is another layer of the image: together they have a limit too, in bytes and in files."""
    layer = LayerTar().add("big", bytes(MIB // 2)).data()
    sizes: list[int] = []
    original = unpack.Allowance.give_back
    monkeypatch.setattr(
        unpack.Allowance,
        "give_back",
        lambda self, limit, result: sizes.append(result.size) or original(self, limit, result),
    )
    with pytest.raises(ImageError, match="bytes unpacked"):
        load(store, io.BytesIO(docker_archive([layer] * 60, compress=compress)), max_layer_size=MIB)
    assert sum(sizes) <= 4 * MIB and os.listdir(store.tmp) == os.listdir(store.layers) == []
    load(store, io.BytesIO(docker_archive([layer] * 7, compress=compress)), max_layer_size=MIB)
    monkeypatch.setattr(unpack, "MAX_INODES", 20)
    with pytest.raises(ImageError, match="more than 20 members unpacked"):
        load(store, io.BytesIO(docker_archive([TOP] * 30, compress=compress)))


# How much it takes of memory, and of time

LOADER = """if True:
    import resource, sqlite3, sys
    sys.path.insert(0, sys.argv[1])
    from test_image_layer import open_store
    from pycontainer.errors import ImageError, PycontainerError
    from pycontainer.image.load import load
    resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
    with open(sys.argv[3], "rb") as file:
        try:
            print(*load(open_store(sys.argv[2]), file))
        except ImageError as error:
            print(error)
    # Not ru_maxrss, which counts what the process had before it executed this program.
    print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
LONG = "c" * 1_000_000


def measured(root: str, data: bytes, tmp_path: Path) -> tuple[str, int]:
    """What loading it says, and the most memory that it had, in MiB: of the parent and of two children."""
    (tmp_path / "archive").write_bytes(gzip.compress(data, 1))
    environment = os.environ | {"PYTHONPATH": ":".join(path for path in sys.path if path)}
    arguments = [str(Path(__file__).parent), root, str(tmp_path / "archive")]
    process = subprocess.run(
        [sys.executable, "-c", LOADER, *arguments], capture_output=True, text=True, env=environment, check=True
    )
    *lines, parent, child = process.stdout.split("\n")[:-1]
    return "\n".join(lines), (int(parent) + 2 * int(child)) >> 10


def many_whiteouts() -> bytes:
    tar = LayerTar()
    for number in range(300):
        tar.add(f"d/.wh.{number}", pax_headers={"comment": LONG})
    return docker_archive([BASE, tar.data()])


def many_links() -> bytes:
    tar = LayerTar()
    for number in range(300):
        tar.symlink(f"link{number}", LONG)
    return tar.data()


def long_names() -> bytes:
    tar = LayerTar()
    for number in range(6000):
        tar.add("/".join([*["x" * 250] * 15, f".wh.{number}"]))
    return docker_archive([BASE, tar.data()])


def global_records(same: bool) -> bytes:
    tar = LayerTar()
    for number in range(300):
        records = {"comment" if same else f"comment{number}": LONG}
        tar.tar.fileobj.write(tarfile.TarInfo.create_pax_global_header(records))  # type: ignore[union-attr]
        tar.add(f"file{number}")
    return docker_archive([tar.data()])


def broken_records(body: bytes) -> bytes:
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, len(body)
    padded = body + bytes(-len(body) % 512)
    return docker_archive([header.tobuf(tarfile.USTAR_FORMAT) + padded + LayerTar().add("file").data()])


def many_entries(count: int) -> bytes:
    config = json.dumps({"x": "x" * 4_000_000}).encode()
    entry = {"Config": "config.json", "RepoTags": [], "Layers": []}
    tar = LayerTar(tarfile.USTAR_FORMAT).add("config.json", config)
    return tar.add("manifest.json", json.dumps([entry] * count).encode()).data()


def many_configs() -> bytes:
    tar = LayerTar(tarfile.USTAR_FORMAT).add("layer.tar", LAYER)
    entries = []
    for number in range(20):
        document = {"x": ["a" * 90] * 40_000, "n": number, "rootfs": {"type": "layers", "diff_ids": [digest(LAYER)]}}
        tar.add(f"{number}", json.dumps(document).encode())
        entries.append({"Config": f"{number}", "RepoTags": [], "Layers": ["layer.tar"]})
    return tar.add("manifest.json", json.dumps(entries).encode()).data()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (many_whiteouts, "Loaded image"),
        (many_links, "a name of more than 4095 bytes"),
        (long_names, "directories and whiteouts take more than"),
        (lambda: global_records(same=True), "global pax headers"),
        (lambda: global_records(same=False), "global pax headers"),
        (lambda: broken_records(b"1 " * 500_000 + b"="), "a pax header is broken"),
        (lambda: broken_records(b"1000018 comment=" + b"1" * 1_000_001 + b"\n"), "256 digits"),
        (lambda: many_entries(50_000), "100000 objects and lists"),
        (lambda: many_entries(30_000), "more than 1000 images"),
        (many_configs, "bytes of JSON"),
        (lambda: archive(x="[" + "[]," * 1_300_000 + "[]]"), "100000 objects and lists"),
    ],
)
def test_memory_has_a_limit(store: Store, tmp_path: Path, make: Callable[[], bytes], words: str) -> None:  # noqa: F811
    text, peak = measured(store.root, make(), tmp_path)
    assert words in text
    assert peak < 200, text


# What it says

HUGE = str(1 << 70)
ODD_RECORDS = [
    {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(1 << 62)},
    {"GNU.sparse.size": HUGE, "GNU.sparse.map": f"0,0,{HUGE},0"},
    {"GNU.sparse.size": str(1 << 62), "GNU.sparse.map": f"{1 << 62},0"},
    {"GNU.sparse.size": "x", "GNU.sparse.map": "1,2,3"},
    {"size": HUGE},
    {"size": "-1"},
    {"size": "inf"},
    {"mtime": "nan"},
    {"mtime": "inf"},
    {"mtime": HUGE},
    {"mtime": "1.x"},
    {"uid": HUGE},
    {"gid": "1e400"},
    {"path": "a\0b"},
    {"path": "d/" * 1200 + "f"},
    {"path": "\udcff\0"},
    {"linkpath": "a\0b"},
    {"SCHILY.xattr.user.a\0b": "1"},
    {"SCHILY.xattr.": "1"},
    {"SCHILY.xattr.user." + "n" * 300: "1"},
    {"SCHILY.xattr.user.a": "v" * 70_000},
]
ODD_FIELDS = [
    {"mode": 1 << 60, "name": "mode"},
    {"type": tarfile.CHRTYPE, "devmajor": 1 << 50, "name": "device"},
    {"type": tarfile.LNKTYPE, "linkname": "/", "name": "link"},
    {"type": tarfile.SYMTYPE, "linkname": "", "name": "link"},
]


def holes() -> bytes:
    """More bytes than a database can count, in files that a file system takes."""
    tar = LayerTar()
    for number in range(1100):
        tar.add(f"{number}", pax_headers={"GNU.sparse.size": str(1 << 43), "GNU.sparse.map": f"{1 << 43},0"})
    return tar.data()


WORDS_OF_PYTHON = (
    "Python",
    "int()",
    "literal",
    "embedded",
    "Errno",
    "codec",
    "Error",
    "Traceback",
    "NoneType",
    "object",
)


def odd_archives() -> list[bytes]:
    found = [LayerTar().add("file", b"data", pax_headers=records).data() for records in ODD_RECORDS]
    odd = [LayerTar(tarfile.GNU_FORMAT).add(**fields).data() for fields in ODD_FIELDS]  # type: ignore[arg-type]
    return [*found, *odd, holes()]


def says(function: Callable[[], object]) -> str:
    """The error, which is one of ours; nothing where it is taken."""
    try:
        function()
    except PycontainerError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    "data", odd_archives(), ids=[str(number) for number in range(len(ODD_RECORDS) + len(ODD_FIELDS) + 1)]
)
def test_errors_are_in_our_words(store: Store, tmp_path: Path, data: bytes) -> None:  # noqa: F811
    def copy() -> None:
        directory = os.open(tmp_path, os.O_PATH)
        try:
            stream = ForwardStream(io.BytesIO(data), "stream", 1 << 40)
            extract(stream, lambda path: make_directories(directory, path, symlinks=False))
        finally:
            os.close(directory)

    for function in (
        lambda: load(store, io.BytesIO(docker_archive([data]))),
        lambda: importer.import_tarball(store, io.BytesIO(data), "odd"),
        lambda: load(store, io.BytesIO(data)),
        lambda: load(store, io.BytesIO(compress(data)[:-20] + bytes(20))),
        copy,
    ):
        text = says(function)
        assert not [word for word in WORDS_OF_PYTHON if word in text], text
        assert text == text.encode(errors="replace").decode()


def test_files_of_more_bytes_than_can_be_counted(store: Store) -> None:  # noqa: F811
    with pytest.raises(ImageError, match=f"more than {1 << 53} bytes"):
        load(store, io.BytesIO(docker_archive([holes()])))
