"""`save`: which images and names its words choose, what is written, and the file that is there when it is complete."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import sqlite3
import tarfile
from pathlib import Path
from typing import Any

import pytest

from pycontainer.cli import output as output_module
from pycontainer.cli.output import output
from pycontainer.errors import Conflict, ImageError, NotFound, StepFailed, UsageError
from pycontainer.image import manifest
from pycontainer.image import save as save_module
from pycontainer.image.save import choose, save
from pycontainer.image.store import SCHEMA, Store

LAYERS = {"one": [b"base" * 99, b"top"], "two": [b"base" * 99, b"other", b"base" * 99]}


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def add_image(store: Store, layers: list[bytes], *names: str, media_type: str = "") -> str:
    """An image whose blobs are there and whose layers nobody has unpacked; its id."""
    config = {
        "architecture": "amd64",
        "variant": "v2",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]},
    }

    def blob(kind: str, data: bytes) -> dict[str, Any]:
        Path(store.blobs, digest(data)[7:]).write_bytes(data)
        return {"mediaType": kind, "digest": digest(data), "size": len(data)}

    text = json.dumps(config).encode()
    document = {
        "schemaVersion": 2,
        **({"mediaType": media_type} if media_type else {}),
        "config": blob(manifest.CONFIG_TYPE, text),
        "layers": [blob(manifest.LAYER_TYPE, layer) for layer in layers],
    }
    data = json.dumps(document).encode()
    blob("", data)
    chains = " ".join(manifest.chain_ids(config["rootfs"]["diff_ids"]))  # type: ignore[index]
    row = (digest(text), digest(data), text.decode(), "", 1, chains, "")
    store.connection.execute("INSERT INTO images VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    for name in names:
        store.tag(digest(text), name)
    return digest(text)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(SCHEMA)
    store = Store(str(tmp_path / "root"), connection)
    store.make_directories()
    return store


@pytest.fixture
def ids(store: Store) -> tuple[str, str]:
    one = add_image(store, LAYERS["one"], "app:1", "app", "host.example:5000/x/app:1", "app-more")
    return one, add_image(store, LAYERS["two"], "app:2", "aa:x", media_type=manifest.MANIFEST_TYPES[1])


def saved(store: Store, *words: str) -> bytes:
    file = io.BytesIO()
    save(store, words, file.write)
    return file.getvalue()


def contents(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = [member for member in archive if member.isreg()]
        return {member.name: archive.extractfile(member).read() for member in members}  # type: ignore[union-attr]


class TestChoose:
    def test_words(self, store: Store, ids: tuple[str, str]) -> None:
        one, two = ids
        cases: list[tuple[list[str], list[tuple[str, list[str]]]]] = [
            # A name without a tag is all tags of that repository and of no other.
            (["app"], [(one, ["app:1", "app:latest"]), (two, ["app:2"])]),
            (["docker.io/library/app"], [(one, ["app:1", "app:latest"]), (two, ["app:2"])]),
            (["app:latest"], [(one, ["app:latest"])]),
            (["app:2", "app:1"], [(two, ["app:2"]), (one, ["app:1"])]),
            (["app:1", "app:1", "app"], [(one, ["app:1", "app:latest"]), (two, ["app:2"])]),
            (["host.example:5000/x/app"], [(one, ["host.example:5000/x/app:1"])]),
            # By id or digest without a name.
            ([one], [(one, [])]),
            ([one[7:]], [(one, [])]),
            ([one[7:19]], [(one, [])]),
            ([one[:19]], [(one, [])]),
            ([f"app@{store.resolve('app').digest}"], [(one, [])]),
            ([one[7:19], "app:1"], [(one, ["app:1"])]),
            # A name that could be the beginning of an id is a name.
            (["aa"], [(two, ["aa:x"])]),
        ]
        for words, expected in cases:
            found = [(each.image.id, [name.familiar for name in each.names]) for each in choose(store, words)]
            assert found == expected, words

    @pytest.mark.parametrize(
        ("word", "error"),
        [
            ("nope", NotFound),
            ("app:3", NotFound),
            ("0" * 64, NotFound),
            ("Upper", UsageError),
            ("", UsageError),
            (f"app@sha256:{'0' * 64}", NotFound),
        ],
    )
    def test_what_is_not_there(self, store: Store, ids: tuple[str, str], word: str, error: type[Exception]) -> None:
        with pytest.raises(error):
            saved(store, "app:1", word)

    def test_an_id_that_is_not_unique(self, store: Store) -> None:
        with pytest.raises(Conflict):
            for number in range(600):
                choose(store, [add_image(store, [str(number).encode()])[:9]])


class TestArchive:
    def test_both_kinds(self, store: Store, ids: tuple[str, str]) -> None:
        data = saved(store, "app:1", "app:latest", ids[1])
        assert data == saved(store, "app:1", "app:latest", ids[1])
        files = contents(data)
        for name, text in files.items():
            if name.startswith("blobs/"):
                assert name == f"blobs/{digest(text).replace(':', '/')}"
        one, two = store.get(ids[0]), store.get(ids[1])
        index = json.loads(files["index.json"])["manifests"]
        assert [entry["digest"] for entry in index] == [one.digest, one.digest, two.digest]
        assert [entry["mediaType"] for entry in index] == [manifest.MANIFEST_TYPE] * 2 + [manifest.MANIFEST_TYPES[1]]
        assert [entry.get("annotations") for entry in index] == [
            {"io.containerd.image.name": "docker.io/library/app:1", "org.opencontainers.image.ref.name": "1"},
            {"io.containerd.image.name": "docker.io/library/app:latest", "org.opencontainers.image.ref.name": "latest"},
            None,
        ]
        assert index[0]["platform"] == {"architecture": "amd64", "os": "linux", "variant": "v2"}
        entries = json.loads(files["manifest.json"])
        assert [entry["RepoTags"] for entry in entries] == [["app:1", "app:latest"], None]
        for entry, layers in zip(entries, LAYERS.values(), strict=True):
            assert [files[name] for name in entry["Layers"]] == layers
        assert digest(files[entries[1]["Config"]]) == ids[1]

    def test_shared_blobs_are_there_once(self, store: Store, ids: tuple[str, str]) -> None:
        with tarfile.open(fileobj=io.BytesIO(saved(store, "app"))) as archive:
            names = archive.getnames()
            assert len(names) == len(set(names)) == 3 + 2 + 2 * 2 + 3
            assert {(member.mtime, member.uid, member.gid) for member in archive.getmembers()} == {(0, 0, 0)}

    def test_a_layer_of_more_than_eight_gibibytes(self) -> None:
        header = save_module._header("blobs/sha256/x", 9 << 30)
        with tarfile.open(fileobj=io.BytesIO(header + bytes(1024))) as archive:
            assert archive.next().size == 9 << 30  # type: ignore[union-attr]


class TestBrokenStore:
    def layer(self, store: Store, number: int) -> Path:
        return Path(store.blobs, digest(LAYERS["one"][number])[7:])

    def test_a_blob_that_is_gone(self, store: Store, ids: tuple[str, str]) -> None:
        self.layer(store, 1).unlink()
        file = io.BytesIO()
        with pytest.raises(ImageError, match=r"save: layer 2 of 2 of app:1, sha256:\w{64}: its blob is gone"):
            save(store, ["aa", "app"], file.write)
        assert file.getvalue() == b""

    def test_a_blob_that_is_shorter(self, store: Store, ids: tuple[str, str]) -> None:
        self.layer(store, 1).write_bytes(b"to")
        file = io.BytesIO()
        with pytest.raises(ImageError, match="its blob has 2 bytes, not 3"):
            save(store, ["app:1"], file.write)
        assert file.getvalue() == b""

    def test_a_blob_that_is_no_file(self, store: Store, ids: tuple[str, str]) -> None:
        self.layer(store, 1).unlink()
        self.layer(store, 1).symlink_to("/etc/hostname")
        with pytest.raises(ImageError, match="not a regular file"):
            saved(store, "app:1")

    @pytest.mark.parametrize("size", [3, 3 << 18])
    def test_a_blob_that_has_changed(self, store: Store, size: int) -> None:
        """What has been written cannot be taken for an archive that is whole, nor the layer for one that is."""
        layer = b"x" * size
        add_image(store, [layer], "big")
        (Path(store.blobs) / digest(layer)[7:]).write_bytes(b"y" * size)
        file = io.BytesIO()
        with pytest.raises(ImageError, match=r"layer 1 of 1 of big:latest, .*: its blob has changed on the disk"):
            save(store, ["big"], file.write)
        with pytest.raises(tarfile.ReadError):
            contents(file.getvalue())

    def test_a_manifest_that_has_changed(self, store: Store, ids: tuple[str, str]) -> None:
        path = Path(store.blobs, store.resolve("app:1").digest[7:])
        path.write_bytes(path.read_bytes().replace(b"2", b"3", 1))
        with pytest.raises(ImageError, match=r"manifest of app:1, .*: its blob has changed"):
            saved(store, "app:1")

    def test_a_manifest_of_another_image(self, store: Store, ids: tuple[str, str]) -> None:
        other = store.resolve("app:2").digest
        store.connection.execute("UPDATE images SET digest = ? WHERE id = ?", (other, ids[0]))
        with pytest.raises(ImageError, match="not that of the image's config"):
            saved(store, "app:1")


def names_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that cannot have a file without a name."""
    real = os.open

    def open_(path: Any, flags: int, *arguments: Any, **keywords: Any) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return real(path, flags, *arguments, **keywords)

    monkeypatch.setattr(output_module.os, "open", open_)


@pytest.fixture(params=["without a name", "with a name"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "with a name":
        names_only(monkeypatch)
    return str(request.param)


class TestOutput:
    @pytest.mark.parametrize("exists", [False, True])
    def test_complete_or_not_at_all(self, kind: str, tmp_path: Path, exists: bool) -> None:
        target = tmp_path / "x.tar"
        before = ["x.tar"] if exists else []
        if exists:
            target.write_text("old")
        with pytest.raises(ZeroDivisionError), output(str(target)) as out:
            os.write(out, b"half")
            raise ZeroDivisionError
        assert os.listdir(tmp_path) == before
        with output(str(target)) as out:
            os.write(out, b"whole")
            assert not exists or target.read_text() == "old"
        assert os.listdir(tmp_path) == ["x.tar"]
        assert target.read_bytes() == b"whole"
        assert target.stat().st_mode & 0o7777 == 0o600

    def test_what_a_killed_command_left_is_cleared(self, kind: str, tmp_path: Path) -> None:
        target = tmp_path / "x.tar"
        pid = os.fork()
        if pid == 0:
            with output(str(target)) as out:
                os.write(out, b"half")
                os._exit(0)
        os.waitpid(pid, 0)
        assert len(os.listdir(tmp_path)) == (kind == "with a name")
        others = ["x.tar.pycontainer-0123", "y.tar.pycontainer-01234567", "x.tar.gz"]
        for name in others:
            (tmp_path / name).touch()
        with output(str(target)) as out, output(str(target)) as again:
            os.write(out, b"one")
            os.write(again, b"two")
        assert target.read_bytes() == b"one"
        assert sorted(os.listdir(tmp_path)) == sorted(["x.tar", *others])

    def test_a_name_as_long_as_names_may_be(self, kind: str, tmp_path: Path) -> None:
        target = tmp_path / ("\xe4" * 127)
        for text in (b"one", b"two"):
            with output(str(target)) as out:
                os.write(out, text)
            assert target.read_bytes() == text
        assert os.listdir(tmp_path) == [target.name]

    def test_a_symbolic_link_stays(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to("x.tar")
        with output(str(tmp_path / "link")) as out:
            os.write(out, b"whole")
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "x.tar").read_bytes() == b"whole"

    @pytest.mark.parametrize(
        ("name", "number"), [("", errno.EISDIR), ("new/", errno.EISDIR), ("no/x", errno.ENOENT), ("f/x", errno.ENOTDIR)]
    )
    def test_where_nothing_can_be_written(self, tmp_path: Path, name: str, number: int) -> None:
        (tmp_path / "f").touch()
        with pytest.raises(StepFailed) as caught, output(f"{tmp_path}/{name}"):
            pass
        assert caught.value.errno == number
        assert os.listdir(tmp_path) == ["f"]
