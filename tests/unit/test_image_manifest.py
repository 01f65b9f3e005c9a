"""Manifests, indexes and configs: what is accepted, and that everything else is an ImageError."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontainer import json_text
from pycontainer.errors import ImageError, UsageError
from pycontainer.image import importer, manifest

DIGEST = "sha256:" + "a" * 64
CONFIG = {"mediaType": manifest.CONFIG_TYPE, "digest": DIGEST, "size": 1}


def dump(value: Any) -> bytes:
    return json.dumps(value).encode()


def layer(media_type: str = manifest.LAYER_TYPE, **changes: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": DIGEST, "size": 7, **changes}


def document(**changes: Any) -> bytes:
    return dump({"schemaVersion": 2, "config": CONFIG, "layers": [layer()], **changes})


def config(**changes: Any) -> bytes:
    return dump({"os": "linux", "rootfs": {"type": "layers", "diff_ids": [DIGEST]}, **changes})


def test_manifest() -> None:
    found = manifest.parse_manifest(document(), "m")
    assert (found.config.digest, found.layers[0].size) == (DIGEST, 7)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe{\0}\0", "not UTF-8 at byte 0"),
        (b"[" * 100_000, "not JSON"),
        (dump([]), "not an object"),
        (document(schemaVersion=1), "not supported"),
        (document(mediaType="application/x-other"), "application/x-other"),
        (document(config=None), "not an object"),
        (document(config={**CONFIG, "mediaType": "application/vnd.example"}), "not an image to run"),
        (document(layers={}), "not a list"),
        (document(layers=[layer(size=-1)]), "not a size"),
        (document(layers=[layer(size=True)]), "not a size"),
        (document(layers=[layer(digest="sha512:00")]), "not a sha256"),
        (document(layers=[layer("application/vnd.oci.image.layer.v1.tar+xz")]), "not supported"),
        (document(layers=[layer("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")]), "distributed"),
        (document(layers=[layer("application/vnd.oci.image.layer.nondistributable.v1.tar")]), "distributed"),
    ],
)
def test_manifest_refused(data: bytes, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        manifest.parse_manifest(data, "m")


def test_config() -> None:
    data = config(config={"Env": ["A=b"], "Labels": {"k": "v"}, "Cmd": None}, created="2024-01-01T00:00:00Z")
    found = manifest.parse_config(data, "c")
    assert found.id == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert (found.diff_ids, found.created) == ([DIGEST], "2024-01-01T00:00:00Z")


@pytest.mark.parametrize(
    "data",
    [
        config(os="windows"),
        config(rootfs=None),
        config(rootfs={"type": "layers", "diff_ids": ["sha256:.."]}),
        config(rootfs={"type": "layers", "diff_ids": [DIGEST] * (manifest.MAX_LAYERS + 1)}),
        config(config=[]),
        config(config={"Env": "A=b"}),
        config(config={"Cmd": [1]}),
        config(config={"Labels": {"k": 1}}),
        config(config={"User": 0}),
        config(created=5),
        config(history={}),
    ],
)
def test_config_refused(data: bytes) -> None:
    with pytest.raises(ImageError):
        manifest.parse_config(data, "c")


def platform(name: str, architecture: str) -> dict[str, Any]:
    platforms = {"os": "linux", "architecture": architecture}
    digest = "sha256:" + hashlib.sha256(name.encode()).hexdigest()
    return {"mediaType": manifest.MANIFEST_TYPE, "digest": digest, "size": 1, "platform": platforms}


def test_platform_of_this_machine_is_chosen() -> None:
    entries = [platform("other", "s390x"), platform("this", manifest.host_architecture()), platform("x", "unknown")]
    entries[2]["platform"]["os"] = "unknown"
    parsed = manifest.parse_index(dump({"manifests": entries}), "i")
    assert len(parsed) == 2
    assert [entry.digest for entry in manifest.choose_platform(parsed, "i")] == [entries[1]["digest"]]


def test_no_platform_of_this_machine() -> None:
    parsed = manifest.parse_index(dump({"manifests": [platform("other", "s390x")]}), "i")
    with pytest.raises(ImageError, match="only for linux/s390x"):
        manifest.choose_platform(parsed, "i")


def test_chain_ids() -> None:
    one, two = "sha256:" + "1" * 64, "sha256:" + "2" * 64
    chain = hashlib.sha256(f"{one} {two}".encode()).hexdigest()
    assert manifest.chain_ids([one, two]) == ["1" * 64, chain]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["config", "layers", "manifests", "rootfs", "digest", "size", "Config", "Layers"]), inner
        )
    ),
)


@given(JSON)
def test_any_json_is_parsed_or_refused(value: Any) -> None:
    parsers = (
        lambda data: manifest.parse_manifest(data, "x"),
        lambda data: manifest.parse_index(data, "x"),
        lambda data: manifest.parse_config(data, "x"),
        manifest.parse_archive_manifest,
    )
    for parse in parsers:
        try:
            parse(dump(value))
        except ImageError:
            pass


def test_changes() -> None:
    settings = importer.parse_changes(
        [
            'CMD ["a", "b"]',
            "entrypoint exec x",
            "ENV A=1 B='two words'",
            "ENV A 3",
            "WORKDIR srv",
            "WORKDIR www",
            "USER 1000:1000",
            "LABEL k=v",
            "EXPOSE 80 53/udp",
            "VOLUME /data",
            "STOPSIGNAL SIGINT",
        ]
    )
    assert settings == {
        "Cmd": ["a", "b"],
        "Entrypoint": ["/bin/sh", "-c", "exec x"],
        "Env": ["B=two words", "A=3"],
        "WorkingDir": "/srv/www",
        "User": "1000:1000",
        "Labels": {"k": "v"},
        "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
        "Volumes": {"/data": {}},
        "StopSignal": "SIGINT",
    }


@pytest.mark.parametrize("change", ["CMD", "RUN ls", "ENV A", "ENV 'x", "LABEL k=v oops"])
def test_changes_refused(change: str) -> None:
    with pytest.raises(UsageError):
        importer.parse_changes([change])


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("NaN", "NaN"),
        ("[Infinity]", "Infinity"),
        ("1e999", "out of range"),
        ("9" * 5000, "4000 digits"),
        ("[" * 980 + "]" * 980, "64 levels|nested too deeply"),
        ('{"a":' * 65 + "1" + "}" * 65, "64 levels"),
        (r'"\ud800"', "surrogate"),
        (r'{"a\udfff": 1}', "surrogate"),
        ('"\xff"', "not UTF-8 at byte 6"),
    ],
)
def test_what_the_store_could_not_read_or_write_again_is_refused(value: str, words: str) -> None:
    text = f'{{"x":{value},"os":"linux","rootfs":{{"type":"layers","diff_ids":["{DIGEST}"]}}}}'
    with pytest.raises(ImageError, match=words):
        manifest.parse_config(text.encode("latin-1"), "config")
    with pytest.raises(ImageError, match=words):
        manifest.parse_index(f'{{"x":{value},"manifests":[]}}'.encode("latin-1"), "index")


def test_nesting_that_images_have_is_taken() -> None:
    text = dump(
        {"os": "linux", "rootfs": {"type": "layers", "diff_ids": [DIGEST]}, "x": json.loads("[" * 60 + "]" * 60)}
    )
    assert json_text.loads(json_text.pretty(manifest.parse_json(text, "config"))) == json.loads(text)
