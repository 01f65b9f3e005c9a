"""Signatures beside an image, as hostile as somebody who may push can make them."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from pycontainer.errors import ImageError, NotFound, PycontainerError
from pycontainer.image.registry import bundle, signature

DIGEST = "sha256:" + "a" * 64
PRIVATE = ec.generate_private_key(ec.SECP256R1())
KEY = PRIVATE.public_key()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=8,
)
LAYERS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "mediaType": st.just(signature._PAYLOAD) | JSON,
            "digest": st.just(DIGEST) | JSON,
            "size": st.integers() | JSON,
            "annotations": st.dictionaries(st.just(signature._ANNOTATION) | st.text(), st.text() | JSON) | JSON,
        },
    )
    | JSON
)


class Body:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, count: int, decode_content: bool) -> bytes:
        return self._data[:count]


class Registry:
    """Answers every question with the same two things."""

    def __init__(self, manifest: bytes | None, blob: bytes) -> None:
        self._manifest = manifest
        self._blob = blob

    def manifest(self, reference: str) -> tuple[bytes, str]:
        if self._manifest is None:
            raise NotFound("pull", reference, "the registry has no such image or tag")
        return self._manifest, DIGEST

    def referrers(self, digest: str) -> list[Any]:
        return [] if self._manifest is None else [{"digest": DIGEST}]

    @contextlib.contextmanager
    def blob(self, descriptor: Any, start: int) -> Iterator[Body]:
        yield Body(self._blob)


def verify(manifest: bytes | None, blob: bytes = b"") -> None:
    signature.verify(Registry(manifest, blob), [DIGEST], [signature.Key(KEY, "")], "app")  # type: ignore[arg-type]


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()), st.binary())
def test_what_is_no_manifest(manifest: bytes, blob: bytes) -> None:
    with pytest.raises(PycontainerError):
        verify(manifest, blob)


@given(LAYERS, st.binary())
def test_what_are_no_signatures(layers: list[Any], blob: bytes) -> None:
    with pytest.raises(PycontainerError):
        verify(json.dumps({"layers": layers}).encode(), blob)


def test_none() -> None:
    with pytest.raises(ImageError, match="not signed"):
        verify(None)


def statement(**changes: Any) -> dict[str, Any]:
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"digest": {"sha256": "b" * 64}}, {"name": "app", "digest": {"sha256": "a" * 64}}],
        "predicateType": "https://sigstore.dev/cosign/sign/v1",
        "predicate": {},
        **changes,
    }


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def sign(data: bytes) -> str:
    return encoded(PRIVATE.sign(data, ec.ECDSA(hashes.SHA256())))


def enveloped(payload: bytes, kind: str = "application/vnd.in-toto+json", version: str = ".v0.3+json") -> bytes:
    signature = sign(b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload))
    envelope = {"payload": encoded(payload), "payloadType": kind, "signatures": [{"sig": signature, "keyid": "x"}]}
    media_type = f"application/vnd.dev.sigstore.bundle{version}"
    return json.dumps({"mediaType": media_type, "verificationMaterial": {}, "dsseEnvelope": envelope}).encode()


def verify_bundle(data: bytes) -> None:
    layer = {
        "mediaType": bundle.MEDIA_TYPE + ".v0.3+json",
        "digest": f"sha256:{hashlib.sha256(data).hexdigest()}",
        "size": len(data),
    }
    verify(json.dumps({"layers": [layer]}).encode(), data)


class TestBundles:
    @pytest.mark.parametrize("version", [".v0.3+json", "+json;version=0.2"])
    def test_an_envelope(self, version: str) -> None:
        verify_bundle(enveloped(json.dumps(statement()).encode(), version=version))

    @pytest.mark.parametrize(
        "changes",
        [
            {"_type": "https://in-toto.io/Statement/v9"},
            {"predicateType": "https://slsa.dev/provenance/v1"},
            {"subject": [{"digest": {"sha256": "b" * 64}}]},
            {"subject": [{"digest": {"sha512": "a" * 64}}]},
            {"subject": {"digest": {"sha256": "a" * 64}}},
        ],
        ids=str,
    )
    def test_what_does_not_approve_of_this_image(self, changes: dict[str, Any]) -> None:
        with pytest.raises(ImageError, match="not good"):
            verify_bundle(enveloped(json.dumps(statement(**changes)).encode()))

    def test_what_was_signed_as_something_else(self) -> None:
        payload = json.dumps(statement()).encode()
        with pytest.raises(ImageError, match="not signed"):
            verify_bundle(enveloped(payload, "text/plain"))
        document = json.loads(enveloped(payload))
        for change in ({"payload": encoded(payload + b" ")}, {"signatures": [{"sig": sign(payload)}]}):
            changed = {**document, "dsseEnvelope": {**document["dsseEnvelope"], **change}}
            with pytest.raises(ImageError, match="not good"):
                verify_bundle(json.dumps(changed).encode())

    def test_a_message(self) -> None:
        """What is signed is the manifest; the digest beside it may be left away, and is not to be another."""
        layer = {"mediaType": bundle.MEDIA_TYPE + ".v0.3+json"}

        def bundled(**message: Any) -> bundle.Bundle | None:
            document = {"mediaType": layer["mediaType"], "messageSignature": message}
            return bundle.parse(json.dumps(document).encode(), DIGEST)

        assert bundled(signature="YQ==") == (None, [b"a"], True)
        right = {"algorithm": "SHA2_256", "digest": encoded(b"\xaa" * 32)}
        assert bundled(signature="YQ==", messageDigest=right) == (None, [b"a"], True)
        assert bundled(signature="YQ==", messageDigest={"digest": encoded(b"\xab" * 32)}) == (None, [b"a"], False)
        assert bundled(signature="a") is None and bundled() is None

    @given(
        st.binary()
        | JSON.map(lambda value: json.dumps(value).encode())
        | st.fixed_dictionaries(
            {"mediaType": st.just(bundle.MEDIA_TYPE + ".v0.3+json") | JSON},
            optional={
                "messageSignature": st.fixed_dictionaries({}, optional={"signature": JSON, "messageDigest": JSON})
                | JSON,
                "dsseEnvelope": st.fixed_dictionaries(
                    {"payloadType": st.just("application/vnd.in-toto+json") | JSON},
                    optional={
                        "payload": st.binary().map(encoded) | JSON,
                        "signatures": st.lists(st.fixed_dictionaries({"sig": st.text() | JSON}) | JSON) | JSON,
                    },
                )
                | JSON,
            },
        ).map(lambda value: json.dumps(value).encode())
    )
    def test_what_are_no_bundles(self, data: bytes) -> None:
        with pytest.raises(ImageError):
            verify_bundle(data)

    @given(JSON | st.fixed_dictionaries({}, optional={"_type": JSON, "subject": JSON, "predicateType": JSON}))
    def test_what_are_no_statements(self, payload: Any) -> None:
        with pytest.raises(ImageError, match="not good"):
            verify_bundle(enveloped(json.dumps(payload).encode()))
