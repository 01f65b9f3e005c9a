"""What the file of an image may be called, and which archives are of images."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from pycontainer.errors import ImageError, UsageError
from pycontainer.image import directory
from pycontainer.image.reference import parse

DIGEST = f"sha256:{'1' * 64}"


@pytest.mark.parametrize(
    ("name", "stems"),
    [
        ("alpine", ["alpine_latest", "alpine"]),
        ("docker.io/library/alpine:3", ["alpine_3"]),
        ("team/app:1.2_x", ["team/app_1.2_x"]),
        ("localhost:5000/a/b", ["localhost:5000/a/b_latest", "localhost:5000/a/b"]),
        ("[::1]:5000/a:b", ["[::1]:5000/a_b"]),
        (f"alpine@{DIGEST}", []),
        (f"alpine:3@{DIGEST}", []),
    ],
)
def test_candidates(name: str, stems: list[str]) -> None:
    expected = [f"{stem}{suffix}" for stem in stems for suffix in (".tar", ".tar.gz", ".tar.zst", "")]
    assert directory.candidates(parse(name)) == expected


@pytest.mark.parametrize(
    "name",
    ["..", ".", "../a", "a/../../b", "/etc/passwd", "a/..", "a b", "$(reboot)", "UPPER", "new\nline", "a\0", "-n", ""],
)
def test_names_that_would_lead_elsewhere_are_none(name: str) -> None:
    with pytest.raises(UsageError):
        parse(name)


@pytest.mark.parametrize("name", ["../a", "./a", "a/..b", "a:..", "a:.", ".a/b"])
def test_nor_those_with_a_host_or_a_tag(name: str) -> None:
    with pytest.raises(UsageError):
        parse(name)


def test_find(tmp_path: Path) -> None:
    name = parse("team/app")
    assert directory.find(f"{tmp_path}/nosuch", name) is None
    (tmp_path / "team").mkdir()
    assert directory.find(str(tmp_path), name) is None
    (tmp_path / "team/app").mkdir()
    assert directory.find(str(tmp_path), name) is None
    (tmp_path / "team/app/index.json").touch()
    assert directory.find(str(tmp_path), name) == (f"{tmp_path}/team/app", True)
    (tmp_path / "team/app.tar.gz").touch()
    assert directory.find(str(tmp_path), name) == (f"{tmp_path}/team/app.tar.gz", False)
    (tmp_path / "team/app_latest").symlink_to("app")
    assert directory.find(str(tmp_path), name) == (f"{tmp_path}/team/app_latest", True)
    assert directory.find(str(tmp_path), parse("team/app:1")) is None
    os.mkfifo(tmp_path / "fifo.tar")
    (tmp_path / "directory.tar").mkdir()
    for other in ("fifo", "directory", f"{'a' * 240}:{'b' * 120}"):
        assert directory.find(str(tmp_path), parse(other)) is None


def archive(**files: bytes | None) -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(f"./{name.replace('__', '-').replace('_', '.')}")
            member.size = len(data or b"")
            member.type = tarfile.DIRTYPE if data is None else tarfile.REGTYPE
            tar.addfile(member, io.BytesIO(data or b""))
    buffer.seek(0)
    return buffer


IMAGES = json.dumps([{"Config": "c", "RepoTags": None, "Layers": []}]).encode()


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (archive(), False),
        (archive(etc=None, bin=b"x"), False),
        (archive(etc=None, manifest_json=IMAGES), True),
        (archive(manifest_json=b"[]"), False),
        (archive(manifest_json=b'{"name": "program"}'), False),
        (archive(manifest_json=b"\xff"), False),
        (archive(manifest_json=None), False),
        (archive(index_json=b"", oci__layout=b""), True),
        (archive(index_json=b""), False),
    ],
)
def test_which_archives_are_of_images(file: io.BytesIO, expected: bool) -> None:
    file.seek(0)
    assert directory.holds_images(file, 1 << 20) == expected


def test_an_archive_that_is_none() -> None:
    with pytest.raises(ImageError):
        directory.holds_images(io.BytesIO(b"x" * 2000), 1 << 20)
