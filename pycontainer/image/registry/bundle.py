"""Sigstore bundles, as cosign 3 stores them: what of one is signed, and what it says is signed.

    {"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "verificationMaterial": …, and one of
     "dsseEnvelope": {"payloadType": …, "payload": BASE64, "signatures": [{"sig": BASE64}]}
                     the payload is an in-toto statement about a subject, which is the image by its digest
     "messageSignature": {"messageDigest": {"digest": BASE64}, "signature": BASE64}
                         what is signed is the image's manifest itself}

A key has its owner's trust, and not the verification material's, which only says what key it was made with.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any, NamedTuple

from pycontainer.errors import ImageError
from pycontainer.image import manifest

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle"  # and its version, in one of two ways
_STATEMENT = "application/vnd.in-toto+json"
_STATEMENTS = ("https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1")
# Of all that is said of images this is what approves of one; the same key may sign that another is full of holes.
_SIGNED = "https://sigstore.dev/cosign/sign/v1"
_MOST = 10  # signatures of one envelope


class Bundle(NamedTuple):
    """What is left of one.

    signed      the bytes that its signatures sign; None for the image's manifest
    signatures  of which each may be by another key
    names       whether it is of this image that it says that it is signed
    """

    signed: bytes | None
    signatures: list[bytes]
    names: bool


def parse(data: bytes, digest: str) -> Bundle | None:
    """A bundle that may be about the image of that digest; None where it is none that we know."""
    document = _json(data)
    media_type = document.get("mediaType")
    if not isinstance(media_type, str) or not media_type.startswith(MEDIA_TYPE):
        return None
    if "dsseEnvelope" in document:
        return _envelope(_object(document["dsseEnvelope"]), digest)
    return _message(_object(document.get("messageSignature")), digest)


def pre_authentication(payload_type: str, payload: bytes) -> bytes:
    """What DSSE signs in place of a payload: PAE of its protocol, version 1."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _envelope(envelope: dict[str, Any], digest: str) -> Bundle | None:
    payload = _bytes(envelope.get("payload"))
    entries = envelope.get("signatures")
    if envelope.get("payloadType") != _STATEMENT or payload is None or not isinstance(entries, list):
        return None
    signatures = [_bytes(_object(entry).get("sig")) for entry in entries[:_MOST]]
    signed = pre_authentication(_STATEMENT, payload)
    return Bundle(signed, [each for each in signatures if each is not None], _approves(_json(payload), digest))


def _approves(statement: dict[str, Any], digest: str) -> bool:
    """in-toto's statement specification, version 1."""
    subjects = statement.get("subject")
    if statement.get("_type") not in _STATEMENTS or statement.get("predicateType") != _SIGNED:
        return False
    wanted = digest.removeprefix("sha256:")
    return isinstance(subjects, list) and any(
        _object(_object(each).get("digest")).get("sha256") == wanted for each in subjects
    )


def _message(message: dict[str, Any], digest: str) -> Bundle | None:
    signature = _bytes(message.get("signature"))
    if signature is None:
        return None
    # That digest is a hint, says the specification: what is verified are the bytes.
    hint = _object(message.get("messageDigest")).get("digest")
    names = hint is None or _bytes(hint) == bytes.fromhex(digest.removeprefix("sha256:"))
    return Bundle(None, [signature], names)


def _json(data: bytes) -> dict[str, Any]:
    """An object; an empty one where it is none."""
    try:
        return _object(manifest.parse_json(data, ""))
    except ImageError:
        return {}


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _bytes(text: Any) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True) if isinstance(text, str) else None
    except (binascii.Error, ValueError):
        return None
