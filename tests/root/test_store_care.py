"""The store looked after: `system verify`, `image prune --blobs`, and what interrupted pulls have left."""

from __future__ import annotations

import fcntl
import json
import os
import pathlib
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from conftest import Pycontainer, copy_store, new_environment, remove_environment, wait_until
from registry import Answer, environment, server
from test_image_layer import LayerTar, docker_archive

NONE = ("--network", "none")
BASE = (
    LayerTar()
    .directory("etc", 0o750, uid=7)
    .add("etc/base", b"base", mode=0o4755, uid=3)
    .link("etc/other", "etc/base")
    .symlink("link", "/etc")
    .add("implied/file", b"x" * 300_000)
    .add("null", type=b"3", devmajor=1, devminor=3)
    .data()
)
TOP = LayerTar().add("etc/top", b"top").add(".wh.link").add("implied/.wh..wh..opq").data()


@pytest.fixture(scope="module")
def loaded() -> Iterator[pathlib.Path]:
    """A store with one image of two layers, app:1, which tests copy."""
    environment = new_environment()
    load(Pycontainer(environment))
    yield pathlib.Path(environment["PYCONTAINER_ROOT"])
    remove_environment(environment)


@pytest.fixture
def engine(pycontainer: Pycontainer, loaded: pathlib.Path) -> Pycontainer:
    """With app:1."""
    copy_store(loaded, pycontainer.environment)
    return pycontainer


def load(engine: Pycontainer) -> None:
    engine("load", input=docker_archive([BASE, TOP], "app:1"), text=False, check=True)


def verify(engine: Pycontainer, *arguments: str) -> list[str]:
    """The lines but for the summary, which agrees with them, as does the status."""
    result = engine("system", "verify", *arguments)
    *problems, summary = result.stdout.splitlines()
    assert result.stderr == "" and result.returncode == bool(problems), result.stderr
    assert summary.endswith(": nothing is wrong") != bool(problems)
    assert os.listdir(engine.root / "tmp") == []
    return problems


def row(engine: Pycontainer, name: str = "app:1") -> tuple[list[pathlib.Path], list[pathlib.Path]]:
    """Blobs (manifest, config, layers) and unpacked layers of an image."""
    connection = sqlite3.connect(engine.root / "db.sqlite")
    found = connection.execute(
        "SELECT blobs, layers FROM images WHERE id = (SELECT image_id FROM image_names WHERE familiar = ?)", (name,)
    ).fetchone()
    connection.close()
    blobs, layers = (text.split() for text in found)
    return [engine.root / "blobs/sha256" / each for each in blobs], [engine.root / "layers" / each for each in layers]


def flip(path: pathlib.Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


# system verify


def test_nothing_is_wrong(engine: Pycontainer) -> None:
    assert verify(engine) == verify(engine, "--deep") == verify(engine, "app:1") == []
    result = engine("system", "verify", "--deep", check=True)
    assert result.stdout.startswith("1 image, 4 blobs (") and "), 2 layers: nothing" in result.stdout
    assert engine("system", "verify", "nosuch").returncode == 1


@pytest.mark.parametrize("which", [(0,), (1, 2, 3)])
def test_a_flipped_byte_and_a_missing_blob(engine: Pycontainer, which: tuple[int, ...]) -> None:
    labels = ("manifest of app:1", "config of app:1", "layer 1 of 2 of app:1", "layer 2 of 2 of app:1")
    blobs = row(engine)[0]
    for number in which:
        flip(blobs[number])
    lines = verify(engine, "--deep")
    found = [line.partition(": its content is sha256:")[0] for line in lines]
    assert found == [f"{labels[number]}: {blobs[number]}" for number in which]
    assert all(line.endswith(": remove it, then pull or load app:1 again") for line in lines)
    for number in which:
        blobs[number].unlink()
    assert verify(engine) == [
        f"{labels[number]}: {blobs[number]}: its blob is gone from the disk: pull or load app:1 again"
        for number in which
    ]
    load(engine)
    assert verify(engine, "--deep") == []


def test_a_blob_that_is_no_file(engine: Pycontainer) -> None:
    blob = row(engine)[0][2]
    blob.unlink()
    os.mkfifo(blob)
    (line,) = verify(engine)
    assert "not a regular file" in line
    blob.unlink()
    blob.symlink_to("/dev/zero")
    (line,) = verify(engine)
    assert f"{blob}: " in line


def test_an_unpacked_layer_that_is_gone_or_empty(engine: Pycontainer) -> None:
    layer = row(engine)[1][1]
    shutil.rmtree(layer)
    (line,) = verify(engine)
    assert line == f"layer 2 of 2 of app:1: {layer}: the unpacked layer is gone from the disk: pull or load app:1 again"
    layer.mkdir()
    (line,) = verify(engine)
    assert "it is empty, and had 3 bytes: remove it" in line
    layer.rmdir()
    load(engine)
    assert verify(engine, "--deep") == []


def test_deep(engine: Pycontainer) -> None:
    layer = row(engine)[1][0]
    (layer / "etc/base").chmod(0o755)
    os.chown(layer / "etc", 0, 0)
    os.unlink(layer / "null")
    (layer / "new\nline").mkdir()
    os.setxattr(layer / "etc", "user.a", b"b")
    with open(layer / "implied/file", "ab") as file:
        file.write(b"y")
    assert verify(engine) == [], "only a deep look sees that"
    lines = verify(engine, "--deep")
    for place, cause in (
        ("etc/base", "its mode is 0755, not 4755"),
        ("etc", "its owner is 0:0, not 7:0"),
        ("null", "a character device that is missing"),
        ("new\\nline", "it should not be there"),
        ("etc", "its attribute user.a has changed"),
        ("implied/file", "it has 300001 bytes, not 300000"),
    ):
        assert any(line.startswith(f"layer 1 of 2 of app:1: {layer}/{place}: {cause}: ") for line in lines), lines
    assert all(line.endswith(f": remove {layer}, then pull or load app:1 again") for line in lines), lines
    shutil.rmtree(layer)
    load(engine)
    assert verify(engine, "--deep") == []


def test_deep_sees_content_links_and_kinds(engine: Pycontainer) -> None:
    layer = row(engine)[1][0]
    for name, write in (("implied/file", b"y"), ("etc/base", b"z")):
        status = os.stat(layer / name)
        with open(layer / name, "r+b") as file:
            file.write(write)
        os.utime(layer / name, ns=(status.st_mtime_ns, status.st_mtime_ns))
    (layer / "link").unlink()
    (layer / "link").symlink_to("/other")
    (layer / "null").unlink()
    (layer / "null").mkdir()
    lines = {line.split(": ")[1].removeprefix(f"{layer}/"): line.split(": ")[2] for line in verify(engine, "--deep")}
    assert lines.pop("link") == "leads to /other, not to /etc"
    assert lines.pop("null") == "a directory, not a character device"
    assert lines == dict.fromkeys(("implied/file", "etc/base", "etc/other"), "its content has changed")


def test_a_layer_that_differs_everywhere(engine: Pycontainer) -> None:
    layer = row(engine)[1][1]
    for number in range(50):
        (layer / f"file{number}").touch()
    lines = verify(engine, "--deep")
    assert len(lines) == 21 and "it differs in more than 20 places" in lines[-1]


def test_what_the_database_says(engine: Pycontainer) -> None:
    with sqlite3.connect(engine.root / "db.sqlite") as connection:
        connection.execute("UPDATE images SET layers = layers || 'x'")
    assert any("its layers are not those of its config" in line for line in verify(engine, "--deep"))
    with sqlite3.connect(engine.root / "db.sqlite") as connection:
        connection.execute("UPDATE images SET config = '{'")
    assert any(line.startswith("image app:1: database: not JSON") for line in verify(engine, "--deep"))


def test_verify_beside_others_and_killed(engine: Pycontainer) -> None:
    """It holds the lock that loads hold; one that was killed leaves what the next command removes."""
    process = engine.popen("system", "verify", "--deep", stdout=subprocess.PIPE)
    load(engine)
    assert process.wait(60) == 0
    assert process.stdout is not None
    process.stdout.close()
    process = engine.popen("system", "verify", "--deep", stdout=subprocess.DEVNULL)
    wait_until(lambda: os.listdir(engine.root / "tmp") or process.poll() is not None)
    process.kill()
    process.wait()
    engine("images", check=True)
    assert os.listdir(engine.root / "tmp") == []


# image prune --blobs


def test_blobs_are_given_back(pycontainer: Pycontainer, busybox: str, tmp_path: pathlib.Path) -> None:
    engine = pycontainer
    blobs = row(engine, f"{busybox}:latest")[0]
    rows = [json.loads(line) for line in engine("system", "df", "--format", "json", check=True).stdout.splitlines()]
    (usage,) = [each for each in rows if each["Type"] == "Image Blobs"]
    assert (usage["TotalCount"], usage["Active"]) == (str(len(blobs)), "2") and usage["Reclaimable"] != "0B (0%)"
    engine("save", "-o", tmp_path / "before.tar", busybox, check=True)
    assert "as they arrived" in engine("image", "prune", "--blobs", input="n\n", check=True).stdout
    assert all(blob.exists() for blob in blobs)
    result = engine("image", "prune", "--blobs", "-f", "--filter", "label=nosuch", check=True)
    assert result.stdout == "Total reclaimed space: 0B\n" and blobs[2].exists()
    result = engine("image", "prune", "--blobs", "-f", check=True)
    layers = "".join(f"sha256:{name}\n" for name in sorted(blob.name for blob in blobs[2:]))
    assert result.stdout.startswith(f"Deleted Blobs:\n{layers}\nTotal reclaimed space: ")
    assert [blob.exists() for blob in blobs] == [True, True] + [False] * (len(blobs) - 2)
    assert engine("image", "prune", "--blobs", "-f", check=True).stdout == "Total reclaimed space: 0B\n"
    assert engine("run", "--name", "it", *NONE, busybox, "sh", "-c", "echo runs; echo x > /x", check=True).stdout
    engine("tag", busybox, "localhost:1/app:1", check=True)
    for words in (
        ("save", "-o", str(tmp_path / "after.tar"), busybox),
        ("push", "localhost:1/app:1"),
        ("commit", "it"),
    ):
        refused = engine(*words)
        assert refused.returncode == 1
        assert "`image prune --blobs` has given its blob back" in refused.stderr and blobs[2].name in refused.stderr
        assert "hint: pull or load the image again" in refused.stderr
    assert not (tmp_path / "after.tar").exists()
    assert "the layers' blobs of 1 image given back: nothing is wrong" in engine("system", "verify", "--deep").stdout
    assert "0B" in engine("system", "df", "-v", check=True).stdout
    engine("load", "-i", tmp_path / "before.tar", check=True)
    engine("save", "-o", tmp_path / "after.tar", busybox, check=True)
    assert (tmp_path / "after.tar").read_bytes() == (tmp_path / "before.tar").read_bytes()
    engine("commit", "it", "made", check=True)
    assert verify(engine, "--deep") == []


def test_what_another_image_has_stays(engine: Pycontainer) -> None:
    engine("image", "prune", "--blobs", "-f", check=True)
    base = engine("load", input=docker_archive([BASE], "base:1"), text=False, check=True)
    assert base.stdout == b"Loaded image: base:1\n"
    assert "given its blob back" in engine("save", "-o", "/dev/null", "app:1").stderr
    assert engine("save", "base:1", text=False, check=True).stdout
    engine("rmi", "base:1", check=True)
    load(engine)
    assert engine("save", "app:1", text=False, check=True).stdout
    assert verify(engine, "--deep") == []


def test_prune_blobs_removes_images_as_prune_does(engine: Pycontainer) -> None:
    engine("load", input=docker_archive([LayerTar().add("f", b"f").data()], "app:1"), text=False, check=True)
    assert len(engine("images", "-q", check=True).stdout.split()) == 2
    result = engine("image", "prune", "--blobs", "-f", check=True)
    assert "Deleted Images:\ndeleted: sha256:" in result.stdout and "Deleted Blobs:\nsha256:" in result.stdout
    assert len(engine("images", "-q", check=True).stdout.split()) == 1
    assert "untagged: app:1" in engine("image", "prune", "-a", "--blobs", "-f", check=True).stdout


def test_blobs_that_a_save_reads_stay_until_it_has_ended(engine: Pycontainer) -> None:
    lock = os.open(engine.root / "tmp", os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_SH)
    blob = row(engine)[0][2]
    assert blob.name in engine("image", "prune", "--blobs", "-f", check=True).stdout
    assert blob.exists()
    os.close(lock)
    engine("images", check=True)
    assert not blob.exists() and verify(engine, "--deep") == []


KILLED = """
import os, signal, sys
from pycontainer.image import store
from pycontainer.cli import main

class Stop:
    at = int(os.environ["AT"])
    def __call__(self, function):
        def call(*arguments):
            if not Stop.at:
                os.kill(os.getpid(), signal.SIGKILL)
            Stop.at -= 1
            return function(*arguments)
        return call

stop = Stop()
Store = store.Store
for name in ("make_marker", "_needed", "_clear"):
    setattr(Store, name, stop(getattr(Store, name)))
store.settle = stop(store.settle)
store.remove_tree = stop(store.remove_tree)
store._length = stop(store._length)
sys.argv[1:] = ["image", "prune", "--blobs", "-f"]
main.main()
"""


def test_killed_in_the_middle(engine: Pycontainer) -> None:
    """Before, within and after the transaction, and between two files: the image has all of its blobs, or none."""
    states = set()
    for moment in (2, 5, 6, 9, 10, 99):
        if len(row(engine)[0]) == 2:
            load(engine)
        blobs = row(engine)[0]
        assert len(blobs) == 4 and all(blob.exists() for blob in blobs)
        environment = {**os.environ, **engine.environment, "AT": str(moment)}
        status = subprocess.run([sys.executable, "-P", "-c", KILLED], env=environment, capture_output=True).returncode
        engine("images", check=True)
        kept = row(engine)[0]
        assert len(kept) in (2, 4) and all(blob.exists() for blob in kept)
        assert {blob.name for blob in kept} == set(os.listdir(engine.root / "blobs/sha256"))
        assert os.listdir(engine.root / "tmp") == []
        states.add((status, len(kept)))
        if status == 0:
            break
    assert states == {(-signal.SIGKILL, 4), (-signal.SIGKILL, 2), (0, 2)}
    assert verify(engine, "--deep") == []


# What interrupted pulls have left


@pytest.fixture
def slow(pycontainer: Pycontainer, tmp_path: pathlib.Path) -> Iterator[str]:
    """A registry that has app:1 and gives the first half of its layer at once, and the rest never."""
    image = dict(layout())

    def answer(request: object) -> Answer | None:
        path = request.path.removeprefix("/v2/app/")  # type: ignore[attr-defined]
        kind, data = image.get(path, ("", b""))
        if kind != "layer":
            return 200 if kind else 404, {"Content-Type": kind}, data
        wire = request.wfile  # type: ignore[attr-defined]
        wire.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data) + data[: len(data) // 2])
        wire.flush()
        time.sleep(30)
        return None

    pycontainer.environment.update(environment(tmp_path))
    with server(answer) as host:  # type: ignore[arg-type]
        yield host


def layout() -> Iterator[tuple[str, tuple[str, bytes]]]:
    from test_image_load import Layout

    made = Layout()
    entry = made.image([LayerTar().add("file", b"x" * 2_000_000).data()])
    for name, data in made.files.items():
        if name.startswith("blobs/"):
            kind = "layer" if len(data) > 100_000 else "application/octet-stream"
            yield name.replace("sha256/", "sha256:"), (kind, data)
            if name.endswith(entry["digest"][7:]):
                yield "manifests/1", (entry["mediaType"], data)


def test_downloads_of_a_killed_pull(pycontainer: Pycontainer, slow: str) -> None:
    engine = pycontainer
    downloads = engine.root / "downloads"
    process = engine.popen("pull", f"{slow}/app:1", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def has_come() -> bool:
        names = os.listdir(downloads) if downloads.exists() else []
        partial = [name for name in names if name.endswith(".partial")]
        return len(names) == 2 and len(partial) == 1 and (downloads / partial[0]).stat().st_size > 700_000

    wait_until(has_come)
    before = {path.name: path.stat().st_size for path in downloads.iterdir()}
    assert len(before) == 2, "the config, which is whole, and half of the layer"
    for words in (("image", "prune"), ("system", "prune")):
        assert engine(*words, "-f", check=True).stdout == "Total reclaimed space: 0B\n", "a pull is at work on it"
    assert set(os.listdir(downloads)) == set(before)
    process.send_signal(signal.SIGKILL)
    process.wait()
    engine("images", check=True)
    kept = engine("image", "prune", "-f", "--filter", "until=1h", check=True)
    assert kept.stdout == "Total reclaimed space: 0B\n" and set(os.listdir(downloads)) == set(before)
    result = engine("system", "prune", "-f", check=True)
    names = "".join(f"{name}\n" for name in sorted(before))
    assert result.stdout.startswith(f"Deleted Downloads:\n{names}\nTotal reclaimed space: 787kB")
    assert os.listdir(downloads) == []
    assert stat.S_ISDIR(downloads.stat().st_mode)


def test_a_finished_download_that_is_about_to_be_used(engine: Pycontainer) -> None:
    """Whoever takes it has locked its partial name, which may be a new file."""
    downloads = engine.root / "downloads"
    downloads.mkdir(exist_ok=True)
    whole = downloads / ("a" * 64)
    whole.write_bytes(b"all of it")
    with open(f"{whole}.partial", "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        engine("image", "prune", "-f", check=True)
        assert sorted(os.listdir(downloads)) == [whole.name, f"{whole.name}.partial"]
    engine("image", "prune", "-f", check=True)
    assert os.listdir(downloads) == []
