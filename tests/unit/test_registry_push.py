"""What of `push` needs no registry: names, scopes, where layers may be, and blobs as they are read."""

from __future__ import annotations

import pathlib
import sqlite3
import threading

import pytest

from pycontainer.errors import HostError, ImageError, ImageNotFound, UsageError
from pycontainer.image import kept, manifest, reference
from pycontainer.image.kept import Part
from pycontainer.image.registry import config
from pycontainer.image.registry.challenge import merge_scopes
from pycontainer.image.registry.client import _place
from pycontainer.image.registry.push import choose, find_origins, parse, run_at_once
from pycontainer.image.store import SCHEMA, Store
from pycontainer.image.stream import CHUNK


@pytest.fixture
def store(tmp_path: pathlib.Path) -> Store:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(SCHEMA)
    made = Store(str(tmp_path), connection)
    made.make_directories()
    return made


def add(store: Store, number: int, blobs: list[str], *names: str) -> None:
    image_id = f"sha256:{number:064x}"
    row = (image_id, f"sha256:{number + 1000:064x}", "{}", "", 0, "", " ".join(blobs))
    store.connection.execute("INSERT INTO images VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    for name in names:
        parsed = reference.parse(name)
        store.connection.execute("INSERT INTO image_names VALUES (?, ?, ?)", (str(parsed), parsed.familiar, image_id))


def test_names() -> None:
    assert str(parse("alpine")) == "docker.io/library/alpine:latest"
    assert parse("h:1/x", all_tags=True).tag == ""
    for text, every, words in (
        (f"x@sha256:{'0' * 64}", False, "cannot push a digest reference"),
        (f"x:1@sha256:{'0' * 64}", False, "cannot push a digest reference"),
        (f"x@sha256:{'0' * 64}", True, "cannot push a digest reference"),
        ("x:1", True, "tag can't be used with --all-tags/-a"),
        ("0" * 64, False, "invalid image reference"),
    ):
        with pytest.raises(UsageError) as caught:
            parse(text, all_tags=every)
        assert caught.value.step == words


def test_what_is_chosen(store: Store) -> None:
    add(store, 1, [], "h:1/a:1", "h:1/a:2", "h:1/ab:3")
    assert [str(name) for name, _ in choose(store, parse("h:1/a", all_tags=True))] == ["h:1/a:1", "h:1/a:2"]
    assert [str(name) for name, _ in choose(store, parse("h:1/a:2"))] == ["h:1/a:2"]
    with pytest.raises(ImageNotFound, match="tag does not exist"):
        choose(store, parse("h:1/a"))
    with pytest.raises(ImageNotFound) as caught:
        choose(store, parse("nosuch:3"))
    assert caught.value.message == "An image does not exist locally with the tag: nosuch"


def test_where_layers_may_be(store: Store) -> None:
    """In repositories of the same registry only, in few of them, and never in the one that is pushed to."""
    one, two, three = ("1" * 64, "2" * 64, "3" * 64)
    add(store, 1, [one], "h:1/own:1", "h:1/b:1", "h:1/a/c:2")
    add(store, 2, [two], "h:10/other:1", "h.x/other:1", "alpine")
    add(store, 3, [three], "h:1/own:3")
    name = reference.parse("h:1/own:1")
    digests = {f"sha256:{each}" for each in (one, two, three)}
    assert find_origins(store, name, digests) == {f"sha256:{one}": "a/c"}
    assert find_origins(store, reference.parse("busybox"), digests) == {f"sha256:{two}": "library/alpine"}
    for number in range(20):
        add(store, 10 + number, [f"{number:064x}"], f"h:2/r{number}:1")
    many = {f"sha256:{number:064x}" for number in range(20)}
    assert len(set(find_origins(store, reference.parse("h:2/x"), many).values())) == 8


def test_scopes() -> None:
    own = ("repository:a/b:pull,push", "repository:c:pull")
    assert merge_scopes(own, "") == list(own)
    assert merge_scopes(own, "repository:a/b:pull") == list(own)
    assert merge_scopes(own, "repository:x/a/b:push,pull aws") == [*own, "repository:x/a/b:push,pull", "aws"]
    assert merge_scopes(own[:1], "repository:a/b:delete") == ["repository:a/b:pull,push,delete"]
    assert merge_scopes((), "repository:a:pull aws") == ["repository:a:pull aws"] and merge_scopes((), "") == []


def test_places() -> None:
    assert _place("https://h:443/x") == _place("https://H") == "h"
    assert len({_place(url) for url in ("https://h", "https://h:5000", "http://h:443", "https://h.x")}) == 4
    assert _place("https://user@h/") == "h" and _place("https://h:99999/") == "h:99999"


def test_no_mirrors(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.toml").write_text('[registry."docker.io"]\nmirrors = ["https://mirror.example.com"]\n')
    monkeypatch.setenv("PYCONTAINER_CONFIG", str(tmp_path / "config.toml"))
    urls = [endpoint.url for endpoint in config.endpoints("docker.io")]
    assert [endpoint.url for endpoint in config.endpoints("docker.io", mirrors=False)] == urls[1:]


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_a_blob_is_read_in_pieces(store: Store, size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    part = Part("layer", manifest.digest_of(data), size)
    path = pathlib.Path(store.blobs, part.digest[7:])
    path.write_bytes(data)
    with kept.open_blob(store, part, "push") as source:
        pieces = []
        while source.done < size:
            pieces += source.read(min(1000 + source.done, size - source.done))
        assert b"".join(pieces) == data
    for wrong in (data + b"x", data[:-1], data[:-1] + b"~"):
        if wrong == data:
            continue
        path.write_bytes(wrong)
        given = []
        with kept.open_blob(store, part, "push") as source, pytest.raises(ImageError):
            for piece in source.read(size):
                given.append(piece)
        assert len(b"".join(given)) < max(size, 1), "its end is held back"


def test_at_once() -> None:
    """Three at a time; the first failure is told at once, and nothing is begun any more."""
    most = now = 0
    lock = threading.Lock()
    # Nobody gets past it before there are three.
    three = threading.Barrier(3, timeout=30)

    def job() -> None:
        nonlocal most, now
        with lock:
            now += 1
            most = max(most, now)
        three.wait()
        with lock:
            now -= 1

    run_at_once([job] * 9, threading.Event())
    assert most == 3 and now == 0
    run_at_once([], threading.Event())
    stop, hung = threading.Event(), threading.Event()

    def fail() -> None:
        raise HostError("push", "x", "y")

    with pytest.raises(HostError):
        run_at_once([lambda: bool(hung.wait(30)), fail, *[int] * 100], stop)  # type: ignore[list-item]
    assert stop.is_set()
    hung.set()
