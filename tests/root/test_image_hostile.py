"""Images that are made to do harm: to the store, to the memory, to the disk."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import tarfile
from pathlib import Path
from typing import Any

import pytest
from conftest import Pycontainer
from test_image_layer import LayerTar

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
