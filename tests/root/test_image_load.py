"""Whole images: every format, real producers, tampering, loads that are killed, loads at the same time."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Pycontainer
from test_image_layer import LayerTar, docker_archive, open_store, snapshot, store  # noqa: F401

from pycontainer.errors import ImageError, NotFound, PycontainerError
from pycontainer.image import importer, manifest, workspace
from pycontainer.image.load import load
from pycontainer.image.store import Store

BASE = LayerTar().directory("etc", 0o750, uid=7).add("etc/base", b"base").symlink("l", "/etc").data()
TOP = LayerTar().add("etc/top", b"top").add(".wh.l").data()


def hex_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Layout:
    """An OCI layout in the making: `files` by name."""

    def __init__(self) -> None:
        self.files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}

    def blob(self, media_type: str, data: bytes, **fields: Any) -> dict[str, Any]:
        self.files[f"blobs/sha256/{hex_of(data)}"] = data
        return {"mediaType": media_type, "digest": f"sha256:{hex_of(data)}", "size": len(data), **fields}

    def image(self, layers: list[bytes], **fields: Any) -> dict[str, Any]:
        diff_ids = [f"sha256:{hex_of(data)}" for data in layers]
        config = {"os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}}
        document = {
            "schemaVersion": 2,
            "config": self.blob(manifest.CONFIG_TYPE, json.dumps(config).encode()),
            "layers": [self.blob(manifest.LAYER_TYPE, data) for data in layers],
        }
        return self.blob(manifest.MANIFEST_TYPE, json.dumps(document).encode(), **fields)

    def index(self, *entries: dict[str, Any], **fields: Any) -> dict[str, Any]:
        return self.blob(manifest.INDEX_TYPES[0], self.top(*entries), **fields)

    def top(self, *entries: dict[str, Any]) -> bytes:
        data = json.dumps({"schemaVersion": 2, "manifests": entries}).encode()
        self.files["index.json"] = data
        return data

    def archive(self) -> bytes:
        tar = LayerTar(tarfile.USTAR_FORMAT)
        for name, data in self.files.items():
            tar.add(name, data)
        return tar.data()

    def write(self, directory: Path) -> Path:
        for name, data in self.files.items():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_bytes(data)
        return directory


def named(name: str) -> dict[str, Any]:
    return {"annotations": {"org.opencontainers.image.ref.name": name}}


def check_image(image_store: Store, name: str) -> None:
    lower, upper = (Path(path) for path in image_store.resolve(name).layers)
    assert (lower / "etc/base").read_bytes() == b"base" and (upper / "etc/top").read_bytes() == b"top"
    assert os.stat(upper / "etc").st_uid == 7
    assert os.lstat(upper / "l").st_rdev == 0


# Formats


def test_oci_archive_and_directory(store: Store, tmp_path: Path) -> None:  # noqa: F811
    layout = Layout()
    layout.top(layout.image([BASE, TOP], **named("example.com/app:1")), layout.image([BASE], **named("latest")))
    lines = load(store, io.BytesIO(layout.archive()))
    assert lines[0] == "Loaded image: example.com/app:1" and lines[1].startswith("Loaded image ID: sha256:")
    check_image(store, "example.com/app:1")
    before = snapshot(store)
    assert load(store, str(layout.write(tmp_path))) == lines
    assert snapshot(store) == before


def test_nested_index_of_platforms(store: Store) -> None:  # noqa: F811
    layout = Layout()
    other = layout.image([TOP], platform={"os": "linux", "architecture": "s390x"})
    here = layout.image([BASE, TOP], platform={"os": "linux", "architecture": manifest.host_architecture()})
    attestation = layout.image([BASE], platform={"os": "unknown", "architecture": "unknown"})
    layout.top(layout.index(other, here, attestation, **named("app:multi")))
    assert load(store, io.BytesIO(layout.archive())) == ["Loaded image: app:multi"]
    check_image(store, "app:multi")
    assert store.resolve("app:multi").digest == here["digest"]


def test_indexes_nested_without_end(store: Store) -> None:  # noqa: F811
    layout = Layout()
    entry = layout.image([BASE])
    for _ in range(6):
        entry = layout.index(entry)
    layout.top(entry)
    with pytest.raises(ImageError, match="nested indexes"):
        load(store, io.BytesIO(layout.archive()))


def test_docker_archive_shares_a_layer_through_a_link(store: Store) -> None:  # noqa: F811
    archive = docker_archive([BASE, BASE, TOP])
    tar = LayerTar(tarfile.USTAR_FORMAT)
    with tarfile.open(fileobj=io.BytesIO(archive)) as original:
        for member in original:
            if member.name == "1/layer.tar":
                tar.symlink(member.name, "../0/layer.tar")
            else:
                tar.add(member.name, original.extractfile(member).read())  # type: ignore[union-attr]
    assert load(store, io.BytesIO(tar.data())) == ["Loaded image: test:latest"]
    assert len(store.resolve("test").layers) == 3


def test_docker_archive_in_the_new_layout(store: Store) -> None:  # noqa: F811
    """An OCI layout with a manifest.json besides, which holds the names."""
    layout = Layout()
    entry = layout.image([BASE, TOP])
    layout.top(entry)
    document = json.loads(layout.files[f"blobs/{entry['digest'].replace(':', '/')}"])
    config, *layers = (f"blobs/{d['digest'].replace(':', '/')}" for d in (document["config"], *document["layers"]))
    listed = [{"Config": config, "RepoTags": ["app:1", "app:latest"], "Layers": layers}]
    layout.files["manifest.json"] = json.dumps(listed).encode()
    assert load(store, io.BytesIO(layout.archive())) == ["Loaded image: app:1", "Loaded image: app:latest"]
    check_image(store, "app")


def test_compressed_archive_through_a_pipe(store: Store) -> None:  # noqa: F811
    for program in ("gzip", "zstd"):
        if not shutil.which(program):
            pytest.skip(f"no {program}")
        with subprocess.Popen([program, "-c"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(docker_archive([BASE, TOP], f"from:{program}"))
            process.stdin.close()
            assert load(store, process.stdout) == [f"Loaded image: from:{program}"]
        check_image(store, f"from:{program}")


def test_layers_are_shared_and_blobs_kept(store: Store) -> None:  # noqa: F811
    load(store, io.BytesIO(docker_archive([BASE], "one")))
    base = store.resolve("one").layers[0]
    inode = os.stat(base).st_ino
    load(store, io.BytesIO(docker_archive([BASE, TOP], "two")))
    assert store.resolve("two").layers[0] == base and os.stat(base).st_ino == inode
    image = store.resolve("two")
    kept = json.loads(Path(store.blobs, image.digest.removeprefix("sha256:")).read_bytes())
    assert kept["config"]["digest"] == image.id
    for name in os.listdir(store.blobs):
        assert hex_of(Path(store.blobs, name).read_bytes()) == name


REAL = LayerTar()
REAL.directory("usr/bin").add("usr/bin/tool", b"x" * 5000, mode=0o4755).link("usr/bin/alias", "usr/bin/tool")
REAL.symlink("bin", "usr/bin").directory("tmp", 0o1777).add("etc/owned", b"y", uid=10, gid=20)
REAL_DATA = REAL.data()


@pytest.mark.parametrize(
    ("target", "options"),
    [
        ("oci:{}/oci:example.com/real:1", []),
        ("oci-archive:{}/oci.tar:example.com/real:1", []),
        ("oci-archive:{}/oci.tar:example.com/real:1", ["--dest-compress-format", "zstd"]),
        ("docker-archive:{}/docker.tar:example.com/real:1", []),
    ],
)
def test_what_skopeo_writes(store: Store, tmp_path: Path, target: str, options: list[str]) -> None:  # noqa: F811
    if not shutil.which("skopeo"):
        pytest.skip("no skopeo")
    source = tmp_path / "source.tar"
    source.write_bytes(docker_archive([REAL_DATA, TOP, TOP], "example.com/real:1"))
    command = ["skopeo", "--insecure-policy", "copy", "--quiet", *options, f"docker-archive:{source}"]
    subprocess.run([*command, target.format(tmp_path)], check=True)
    output = target.format(tmp_path).split(":")[1]
    lines = load(store, output if os.path.isdir(output) else open(output, "rb"))  # noqa: SIM115
    assert lines == ["Loaded image: example.com/real:1"]
    root = Path(store.resolve("example.com/real:1").layers[0])
    assert os.stat(root / "usr/bin/tool").st_mode & 0o7777 == 0o4755
    assert os.stat(root / "usr/bin/alias").st_nlink == 2 and os.stat(root / "etc/owned").st_gid == 20


def listing(root: Path) -> dict[str, Any]:
    found = {}
    for path in sorted(root.rglob("*")):
        status = os.lstat(path)
        link = os.readlink(path) if path.is_symlink() else ""
        found[str(path.relative_to(root))] = (status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, link)
    return found


def test_the_same_tree_as_umoci(store: Store, tmp_path: Path) -> None:  # noqa: F811
    if not shutil.which("umoci"):
        pytest.skip("no umoci")
    data = LayerTar().directory("etc").directory("usr").add("usr/f", b"1", mode=0o2755, uid=3)
    data.symlink("l", "/usr", uid=4).add("etc/ns", pax_headers={"mtime": "1234567890.123456789"}).directory("usr/d")
    layout = Layout()
    layout.top(layout.image([data.data()], **named("latest")))
    layout.write(tmp_path / "oci")
    subprocess.run(["umoci", "unpack", "--image", f"{tmp_path}/oci:latest", f"{tmp_path}/bundle"], check=True)
    lines = load(store, str(tmp_path / "oci"))
    ours = Path(store.resolve(lines[0].rpartition(" ")[2]).layers[0])
    assert listing(ours) == listing(tmp_path / "bundle/rootfs")


# Tampering


def changed(change: Callable[[Layout], None]) -> Callable[[], bytes]:
    def make() -> bytes:
        layout = Layout()
        layout.top(layout.image([BASE, TOP], **named("app:1")))
        change(layout)
        return layout.archive()

    return make


def first_blob(layout: Layout, data: bytes) -> str:
    return f"blobs/sha256/{hex_of(data)}"


def wrong_size(layout: Layout) -> None:
    entry = layout.image([BASE])
    layout.top({**entry, "size": entry["size"] + 1})


def foreign(layout: Layout) -> None:
    name = json.loads(layout.files["index.json"])["manifests"][0]["digest"].replace(":", "/")
    document = json.loads(layout.files[f"blobs/{name}"])
    document["layers"][0]["mediaType"] = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    layout.top(layout.blob(manifest.MANIFEST_TYPE, json.dumps(document).encode()))


BROKEN: dict[str, tuple[Callable[[], bytes], str]] = {
    "wrong digest": (changed(lambda o: o.files.update({first_blob(o, TOP): b"other"})), "wrong digest"),
    "wrong digest of a blob that nothing needs": (
        changed(lambda o: o.files.update({f"blobs/sha256/{'0' * 64}": b"other"})),
        "wrong digest",
    ),
    "wrong size": (changed(wrong_size), "wrong size"),
    "missing blob": (changed(lambda o: o.files.pop(first_blob(o, TOP)) and None), "does not hold it"),
    "foreign layer": (changed(foreign), "may not be distributed"),
    "huge index": (changed(lambda o: o.files.update({"index.json": b" " * (manifest.MAX_JSON + 1)})), "larger than"),
    "no JSON": (changed(lambda o: o.files.update({"index.json": b"{"})), "not JSON"),
    "no image": (changed(lambda o: o.top() and None), "no image in it"),
    "no index": (lambda: LayerTar().add("etc/passwd").data(), "no manifest.json and no index.json"),
    "docker config": (
        lambda: docker_archive([BASE]).replace(b'"linux"', b'"Linux"'),
        "wrong digest",
    ),
    "bad name": (lambda: docker_archive([BASE], "BAD NAME"), "not a valid image name"),
    "member outside": (lambda: LayerTar().add("../x").data(), "outside"),
    "empty": (lambda: b"", "empty"),
    "not an archive": (lambda: random.Random(3).randbytes(5000), "corrupt or truncated"),
    "second image broken": (
        lambda: docker_archive([BASE, LayerTar().add("../evil").data()], "app:2"),
        "evil",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_archives_change_nothing(store: Store, case: str) -> None:  # noqa: F811
    load(store, io.BytesIO(docker_archive([BASE], "there:1")))
    before = snapshot(store)
    make, words = BROKEN[case]
    with pytest.raises(ImageError, match=words):
        load(store, io.BytesIO(make()))
    assert snapshot(store) == before


def test_a_link_does_not_stand_in_for_a_blob(store: Store) -> None:  # noqa: F811
    layout = Layout()
    layout.top(layout.image([BASE]))
    layout.files["other"] = layout.files.pop(first_blob(layout, BASE))[:-1] + b"x"
    tar = LayerTar(tarfile.USTAR_FORMAT).symlink(first_blob(layout, BASE), "../../other")
    for name, data in layout.files.items():
        tar.add(name, data)
    with pytest.raises(ImageError, match="wrong digest"):
        load(store, io.BytesIO(tar.data()))


@pytest.mark.parametrize("place", ["blobs", "blobs/sha256", "blob"])
def test_layout_directories_with_symlinks(store: Store, tmp_path: Path, place: str) -> None:  # noqa: F811
    layout = Layout()
    layout.top(layout.image([BASE], **named("app:1")))
    directory = layout.write(tmp_path / "layout")
    victim = directory / (first_blob(layout, BASE) if place == "blob" else place)
    victim.rename(tmp_path / "elsewhere")
    victim.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ImageError, match=r"symlink|not a directory"):
        load(store, str(directory))


def test_an_image_that_cannot_be_committed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """What was moved into place is moved back."""
    load(store, io.BytesIO(docker_archive([BASE], "there:1")))
    before = snapshot(store)
    store.connection.execute("CREATE TRIGGER full BEFORE INSERT ON images BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    with pytest.raises(PycontainerError, match="disk full"):
        load(store, io.BytesIO(docker_archive([BASE, TOP], "new:1")))
    store.connection.execute("DROP TRIGGER full")
    assert snapshot(store) == before


# Killed, and at the same time


LOADER = """if True:
    import sqlite3
    from pycontainer.image.load import load
    from pycontainer.image.store import SCHEMA, Store
    connection = sqlite3.connect({root!r} + "/database", isolation_level=None, timeout=60)
    connection.executescript(SCHEMA)
    store = Store({root!r}, connection)
    print("started", flush=True)
    with open({archive!r}, "rb") as file:
        print(load(store, file), flush=True)
"""


def start_load(root: str, archive: Path) -> subprocess.Popen[str]:
    code = LOADER.format(root=root, archive=str(archive))
    environment = os.environ | {"PYTHONPATH": ":".join(path for path in sys.path if path)}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None and process.stdout.readline() == "started\n"
    return process


@pytest.fixture
def large_archive(tmp_path: Path) -> Path:
    layers = []
    for index in range(4):
        tar = LayerTar(tarfile.USTAR_FORMAT)
        for number in range(500):
            tar.add(f"layer{index}/{number % 10}/{number}", b"content" * 500)
        layers.append(tar.data())
    path = tmp_path / "large.tar"
    path.write_bytes(docker_archive(layers, "large"))
    return path


def test_killed_loads_leave_nothing(store: Store, large_archive: Path) -> None:  # noqa: F811
    begin = time.monotonic()
    assert start_load(store.root, large_archive).wait() == 0
    duration = time.monotonic() - begin
    store.remove("large", False, lambda _: [])
    load(store, io.BytesIO(docker_archive([BASE], "there:1")))
    before = snapshot(store)
    chance = random.Random(4)
    for attempt in range(12):
        process = start_load(store.root, large_archive)
        time.sleep(chance.uniform(0, duration))
        process.send_signal(signal.SIGKILL)
        process.wait()
        store.clear_leftovers()
        assert os.listdir(store.tmp) == [], attempt
        try:
            store.remove("large", False, lambda _: [])  # it was quicker than the signal
        except NotFound:
            pass
        assert snapshot(store) == before, attempt


def test_two_loads_at_once(store: Store, large_archive: Path) -> None:  # noqa: F811
    for _ in range(3):
        processes = [start_load(store.root, large_archive) for _ in range(3)]
        outputs = [process.communicate()[0] for process in processes]
        assert outputs == ["['Loaded image: large:latest']\n"] * 3
        assert len(os.listdir(store.layers)) == 4 and os.listdir(store.tmp) == []
        assert len(list(Path(store.layers).rglob("499"))) == 4
        store.remove("large", False, lambda _: [])
        assert os.listdir(store.layers) == os.listdir(store.blobs) == []


def test_an_image_removed_while_a_load_counts_on_its_layers(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    load(store, io.BytesIO(docker_archive([BASE], "one")))
    other = open_store(store.root)

    original = workspace.unpack_layers

    def unpack_and_remove(*arguments: Any) -> Any:
        other.remove("one", False, lambda _: [])
        return original(*arguments)

    monkeypatch.setattr(workspace, "unpack_layers", unpack_and_remove)
    load(store, io.BytesIO(docker_archive([BASE, TOP], "two")))
    check_image(store, "two")
    store.clear_leftovers()
    check_image(store, "two")
    assert len(os.listdir(store.layers)) == 2 and os.listdir(store.tmp) == []


# Import and the command line


def test_import(store: Store) -> None:  # noqa: F811
    data = LayerTar().symlink("bin", "usr/bin").add("usr/bin/sh", b"x", mode=0o755).data()
    image_id = importer.import_tarball(store, io.BytesIO(data), "mine:1", changes=["ENV A=b"], message="hello")
    image = store.resolve("mine:1")
    assert image.id == image_id and image.config["config"] == {"Env": ["A=b"], "Cmd": ["/bin/sh"]}
    assert image.config["history"][0]["comment"] == "hello"
    importer.import_tarball(store, io.BytesIO(LayerTar().add("f").data()), "mine:1")
    assert store.resolve("mine:1").config["config"] == {}
    assert store.resolve(image_id).names == []


def test_commands(pycontainer: Pycontainer, tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    archive.write_bytes(docker_archive([BASE, TOP], "app:1"))

    def said(*arguments: str, input: bytes = b"") -> str:
        return pycontainer(*arguments, input=input, text=False, check=True).stdout.decode()

    assert said("load", "-i", str(archive)) == "Loaded image: app:1\n"
    assert said("load", input=archive.read_bytes()) == "Loaded image: app:1\n"
    assert said("tag", "app:1", "example.com/other") == ""
    table = said("images").splitlines()
    assert table[0].split() == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    assert table[1].split()[:2] == ["app", "1"] and table[2].split()[:2] == ["example.com/other", "latest"]
    assert table[1].split()[-1] == "7B"
    (short,) = set(said("images", "-q").split())
    assert len(short) == 12
    assert len(said("image", "ls", "--no-trunc", "app").splitlines()[1].split()[2]) == 71
    (document,) = json.loads(said("image", "inspect", short))
    assert document["RepoTags"] == ["app:1", "example.com/other:latest"] and document["Size"] == 7
    assert document["Id"].startswith(f"sha256:{short}") and len(document["RootFS"]["Layers"]) == 2
    assert said("rmi", "example.com/other") == "Untagged: example.com/other:latest\n"
    said("create", "--name", "web", "app:1", "x")
    refused = pycontainer("rmi", "app:1")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("pycontainer: ") and "web" in refused.stderr
    assert said("images", "-q") == f"{short}\n"
    said("rm", "web")
    assert said("image", "rm", "app:1").count("Deleted: sha256:") == 3
    assert len(said("images").splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        (["load", "-i", "/absent"], "no such file"),
        (["load", "--max-layer-size", "12x", "-i", "x"], "not a size"),
        (["load", "--max-layer-size", "0", "-i", "x"], "not a size"),
        (["load", "--max-layer-size", "-1", "-i", "x"], "not a size"),
    ],
)
def test_command_errors(pycontainer: Pycontainer, arguments: list[str], cause: str) -> None:
    refused = pycontainer(*arguments)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.count("pycontainer: ") == 1 and cause in refused.stderr


def test_names_that_are_not_there(pycontainer: Pycontainer) -> None:
    refused = pycontainer("rmi", "absent", "gone")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.count("pycontainer: ") == 2
    assert "absent" in refused.stderr and "gone" in refused.stderr


def test_a_layer_that_is_too_large(pycontainer: Pycontainer) -> None:
    archive = docker_archive([LayerTar().add("big", bytes(2 << 20)).data()])
    refused = pycontainer("load", "--max-layer-size", "1m", input=archive, text=False)
    assert refused.returncode == 1 and b"more than 1048576 bytes" in refused.stderr


def test_import_command(pycontainer: Pycontainer) -> None:
    data = LayerTar().add("f").data()
    result = pycontainer("import", "-c", "CMD echo hi", "-", "mine", input=data, text=False, check=True)
    assert result.stdout.startswith(b"sha256:")
    (document,) = json.loads(pycontainer("image", "inspect", "mine", check=True).stdout)
    assert document["Config"]["Cmd"] == ["/bin/sh", "-c", "echo hi"]


def test_an_archive_with_the_same_member_twice(store: Store) -> None:  # noqa: F811
    tar = LayerTar(tarfile.USTAR_FORMAT).add("note", b"1").add("note", b"2")
    with tarfile.open(fileobj=io.BytesIO(docker_archive([BASE]))) as original:
        for member in original:
            tar.add(member.name, original.extractfile(member).read())  # type: ignore[union-attr]
    assert load(store, io.BytesIO(tar.data())) == ["Loaded image: test:latest"]


def test_a_directory_that_was_removed_is_no_obstacle(store: Store, large_archive: Path, tmp_path: Path) -> None:  # noqa: F811
    gone = tmp_path / "gone"
    gone.mkdir()
    before = os.getcwd()
    os.chdir(gone)
    gone.rmdir()
    try:
        with open(large_archive, "rb") as file:
            load(store, file)
    finally:
        os.chdir(before)
