"""Signatures beside an image, as hostile as somebody who may push can make them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from pycontainer.errors import ImageError, NotFound, PycontainerError
from pycontainer.image.registry import signature

DIGEST = "sha256:" + "a" * 64
KEY = ec.generate_private_key(ec.SECP256R1()).public_key()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=20,
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
