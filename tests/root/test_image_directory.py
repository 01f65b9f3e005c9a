"""Images that lie in a directory as archives or layouts: `pull`, `run` and `create` find them by name, offline."""

from __future__ import annotations

import gzip
import os
import pathlib
import shutil
import subprocess

import pytest
import zstandard
from conftest import Pycontainer
from registry import environment
from test_image_layer import LayerTar, docker_archive
from test_image_load import Layout, named

NONE = ("--network", "none")
LAYER = LayerTar().add("file", b"content").data()


@pytest.fixture
def directory(pycontainer: Pycontainer, tmp_path: pathlib.Path) -> pathlib.Path:
    """ROOT/images."""
    pycontainer.environment.update(environment(tmp_path))
    path = pycontainer.root / "images"
    path.mkdir(parents=True)
    return path


def names(engine: Pycontainer) -> list[str]:
    return sorted(engine("images", "--format", "{{.Repository}}:{{.Tag}}", check=True).stdout.split())


@pytest.fixture
def busybox_tree(busybox_archive: pathlib.Path, tmp_path: pathlib.Path) -> bytes:
    """A root file system's tarball with a shell."""
    program = shutil.which("busybox")
    assert program is not None
    tar = LayerTar().directory("bin").add("bin/busybox", pathlib.Path(program).read_bytes(), mode=0o755)
    # What a program may bring, and what is not docker's.
    tar.add("manifest.json", b'{"name": "program"}').add("index.json", b"[]").symlink("bin/sh", "busybox")
    return tar.data()


def test_run_and_create(
    pycontainer: Pycontainer, directory: pathlib.Path, busybox_archive: pathlib.Path, busybox_tree: bytes
) -> None:
    engine = pycontainer
    shutil.copy(busybox_archive, directory / "tools.tar")
    (directory / "team").mkdir()
    (directory / "team/root_1.2.tar.gz").write_bytes(gzip.compress(busybox_tree))
    refused = engine("run", "--rm", "--pull", "never", *NONE, "tools", "true")
    assert refused.returncode == 125 and "no such image" in refused.stderr
    result = engine("run", "--rm", *NONE, "tools", "echo", "loaded", check=True)
    assert result.stdout == "loaded\n" and f"latest: Loading from {directory}/tools.tar" in result.stderr
    result = engine("run", "--rm", *NONE, "tools", "echo", "again", check=True)
    assert (result.stdout, result.stderr) == ("again\n", "")
    identifier = engine("create", "-q", *NONE, "team/root:1.2", "/bin/sh", "-c", "exit 3", check=True).stdout.strip()
    assert len(identifier) == 64 and engine("start", "-a", identifier).returncode == 3
    assert names(engine) == ["team/root:1.2", "tools:latest"], "under the name that was asked for, and no other"
    assert engine("system", "verify", "--deep", check=True)
    # It is asked for whenever its name is not there.
    engine("rm", identifier, check=True)
    engine("rmi", "team/root:1.2", check=True)
    assert engine("run", "--rm", *NONE, "team/root:1.2", "/bin/sh", "-c", "exit 4").returncode == 4


def test_pull_takes_every_format(pycontainer: Pycontainer, directory: pathlib.Path) -> None:
    engine = pycontainer
    archive = docker_archive([LAYER], "other:name")
    layout = Layout()
    layout.top(layout.image([LAYER]))
    (directory / "plain.tar").write_bytes(archive)
    (directory / "gzip_v1.tar.gz").write_bytes(gzip.compress(archive))
    (directory / "zstd.tar.zst").write_bytes(zstandard.compress(archive))
    (directory / "oci.tar").write_bytes(layout.archive())
    layout.write(directory / "layout_2")
    (directory / "localhost:5000").mkdir()
    (directory / "localhost:5000/tree.tar").write_bytes(LAYER)
    (directory / "with_latest.tar").write_bytes(LAYER)
    (directory / "with.tar").write_bytes(b"not looked at")
    asked = ["gzip:v1", "layout:2", "localhost:5000/tree:latest", "oci:latest", "plain:latest", "with:latest"]
    for name in [*asked, "zstd:latest"]:
        assert engine("pull", name, check=True).stdout.endswith(f"{name}\n")
    assert names(engine) == [*asked, "zstd:latest"]
    lines = engine("pull", "plain", check=True).stdout.splitlines()
    assert lines[:2] == ["Using default tag: latest", f"latest: Loading from {directory}/plain.tar"]
    assert lines[2].startswith("Digest: sha256:") and lines[3:] == [
        "Status: Loaded plain:latest",
        "docker.io/library/plain:latest",
    ]
    digest = lines[2].removeprefix("Digest: ")
    assert engine("pull", "-q", "plain", check=True).stdout == f"docker.io/library/plain@{digest}\n"
    assert os.listdir(engine.root / "tmp") == []


def test_several_images_in_one_archive(pycontainer: Pycontainer, directory: pathlib.Path) -> None:
    engine = pycontainer
    layout = Layout()
    second = LayerTar().add("second").data()
    layout.top(layout.image([LAYER], **named("one:1")), layout.image([second], **named("docker.io/library/both:2")))
    (directory / "both_2.tar").write_bytes(layout.archive())
    (directory / "both_3.tar").write_bytes(layout.archive())
    engine("pull", "both:2", check=True)
    assert names(engine) == ["both:2"]
    refused = engine("pull", "both:3")
    assert refused.returncode == 1 and "several images in it, and none is both:3, but both:2, one:1" in refused.stderr
    assert f"{directory}/both_3.tar" in refused.stderr and "pycontainer load -i" in refused.stderr


def test_what_is_broken(pycontainer: Pycontainer, directory: pathlib.Path) -> None:
    """The registry is not asked then: what came from there would not be what lies here."""
    engine = pycontainer
    archive = docker_archive([LAYER], "broken:latest")
    tampered = archive.replace(b"content", b"CONTENT")
    (directory / "cut.tar").write_bytes(archive[: len(archive) // 3])
    (directory / "gzip.tar.gz").write_bytes(gzip.compress(archive)[:-30])
    (directory / "tampered.tar").write_bytes(tampered)
    (directory / "empty.tar").write_bytes(b"")
    (directory / "escape.tar").write_bytes(LayerTar().add("../outside", b"x").data())
    (directory / "layout").mkdir()
    (directory / "layout/index.json").write_text("{")
    for name in ("cut.tar", "gzip.tar.gz", "tampered.tar", "empty.tar", "escape.tar", "layout"):
        words = ("run", "--rm", *NONE) if name == "cut.tar" else ("pull",)
        result = engine(*words, name.partition(".")[0])
        assert result.returncode == (125 if name == "cut.tar" else 1) and f"{directory}/{name}: " in result.stderr, (
            result.stderr
        )
        assert "Traceback" not in result.stderr and "registry-1" not in result.stderr
    assert names(engine) == [] and os.listdir(engine.root / "tmp") == []
    assert not (engine.root / "outside").exists()


def test_names_that_are_none_and_what_else_lies_there(pycontainer: Pycontainer, directory: pathlib.Path) -> None:
    engine = pycontainer
    outside = engine.root / "outside.tar"
    outside.write_bytes(LAYER)
    for name in ("my image.tar", "$(reboot).tar", "-n.tar", "..tar", "UPPER.tar", "new\nline.tar"):
        (directory / name).write_bytes(LAYER)
    (directory / "loop.tar").symlink_to("loop.tar")
    for name in ("../outside", "my image"):
        result = engine("pull", "--", name)
        assert result.returncode == 1 and "Loading" not in result.stdout, name
    result = engine("pull", "loop")
    assert f"read image directory: {directory}/loop.tar: too many levels" in result.stderr
    assert names(engine) == []


def test_a_directory_of_ones_own(pycontainer: Pycontainer, directory: pathlib.Path, tmp_path: pathlib.Path) -> None:
    engine = pycontainer
    own = tmp_path / "my images"
    own.mkdir()
    (own / "mine.tar").write_bytes(LAYER)
    (directory / "mine.tar").write_bytes(b"not this one")
    with open(engine.environment["PYCONTAINER_CONFIG"], "a") as file:
        file.write(f'[images]\ndirectory = "{own}"\n')
    assert engine("pull", "mine", check=True).stdout.endswith("/mine:latest\n")
    other = engine("pull", "--platform", "linux/s390x", "mine")
    assert other.returncode == 1 and "registry-1.docker.io" in other.stderr, "a file is of this machine's platform"


def test_killed(pycontainer: Pycontainer, directory: pathlib.Path) -> None:
    engine = pycontainer
    (directory / "large.tar").write_bytes(docker_archive([LayerTar().add("f", os.urandom(20_000_000)).data()], "l"))
    for delay in (0.3, 0.4):
        process = engine.popen("pull", "large", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(delay)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        engine("images", check=True)
        tmp = engine.root / "tmp"
        assert not tmp.exists() or os.listdir(tmp) == []
    engine("pull", "large", check=True)
    engine("system", "verify", "--deep", check=True)
