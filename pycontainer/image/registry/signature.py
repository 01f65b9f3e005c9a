"""`pull --verify` and [signatures]: what cosign signs with a key, checked without asking anybody but the registry.

    tag sha256-HEX.sig     a manifest beside the image whose digest is sha256:HEX: cosign's signature specification
    └─ layers              each a payload; the annotation dev.cosignproject.cosign/signature signs its bytes
       └─ payload          {"critical": {"image": {"docker-manifest-digest": "sha256:HEX"}, …}}

What is signed is the digest, so a name that leads to another image tomorrow is refused. No transparency log is asked.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any, NamedTuple

import urllib3
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from pycontainer.errors import HostError, ImageError, NotFound, UsageError, printable
from pycontainer.image import manifest, policy
from pycontainer.image.manifest import Descriptor

if TYPE_CHECKING:
    from pycontainer.image.registry.client import Registry

    PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey

_PAYLOAD = "application/vnd.dev.cosign.simplesigning.v1+json"
_ANNOTATION = "dev.cosignproject.cosign/signature"
_KIND = "cosign container image signature"
_LARGEST_PAYLOAD = 1 << 20  # bytes
_MOST = 100  # signatures that are looked at; anybody who may push can add some
_STEP = "verify"


class Key(NamedTuple):
    """`digest`: of its file, by which it is recorded."""

    public: PublicKey
    digest: str


def load_key(path: str, step: str) -> Key:
    """A public key: PEM, of an elliptic curve, RSA or Ed25519. Raises UsageError, of that step."""
    data = policy.read_key(path, step)
    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        hint = "the file cosign.pub of `cosign generate-key-pair`, for example"
        raise UsageError(step, path, "not a public key in PEM", hint) from None
    if not isinstance(key, (ec.EllipticCurvePublicKey, rsa.RSAPublicKey, ed25519.Ed25519PublicKey)):
        raise UsageError(step, path, "a kind of key that does not sign images", "one of ECDSA, RSA or Ed25519")
    return Key(key, policy.digest_of(data))


def verify(registry: Registry, digests: list[str], keys: list[Key], name: str) -> tuple[str, str]:
    """The digest of the key that has signed one of the digests, and which one.

    digests  of the image, and of the index that it was chosen from

    Raises ImageError, HostError, UsageError.
    """
    count = 0
    for digest in dict.fromkeys(digests):
        for payload, signature in _signatures(registry, digest, name):
            count += 1
            by = next((key.digest for key in keys if _is_signed(key.public, signature, payload)), None)
            if by is not None and _names(payload, digest, name):
                return by, digest
    if not count:
        cause, hint = "it is not signed", "signatures are looked for as cosign stores them beside an image"
    else:
        cause = f"none of its {count} signatures is good for this image and key" if count > 1 else (
            "its signature is not good for this image and key"
        )  # fmt: skip
        hint = "the key is another, or somebody has changed the image"
    raise ImageError(_STEP, name, f"{cause} ({digests[0][:19]}…)", hint)


def _signatures(registry: Registry, digest: str, name: str) -> list[tuple[bytes, bytes]]:
    """Payloads and what is said to sign them. Raises ImageError, HostError, UsageError."""
    try:
        data, _ = registry.manifest(f"{digest.replace(':', '-')}.sig")
    except NotFound:
        return []
    document = manifest.parse_json(data, name)
    layers = document.get("layers") if isinstance(document, dict) else None
    found = []
    for layer in (layers if isinstance(layers, list) else [])[:_MOST]:
        signature = _signature(layer)
        if signature is not None:
            found.append((_fetch(registry, layer, name), signature))
    return found


def _signature(layer: Any) -> bytes | None:
    """Of one entry; None where it is no signature."""
    if not isinstance(layer, dict) or layer.get("mediaType") != _PAYLOAD:
        return None
    annotations = layer.get("annotations")
    text = annotations.get(_ANNOTATION) if isinstance(annotations, dict) else None
    try:
        return base64.b64decode(text, validate=True) if isinstance(text, str) else None
    except (binascii.Error, ValueError):
        return None


def _fetch(registry: Registry, layer: dict[str, Any], name: str) -> bytes:
    """A payload, of the digest that its entry states. Raises ImageError, HostError, NotFound."""
    digest, size = layer.get("digest"), layer.get("size")
    if not manifest.is_digest(digest) or not isinstance(size, int) or not 0 <= size <= _LARGEST_PAYLOAD:
        raise ImageError(_STEP, name, "the entry of a signature has no digest, or no size that a signature has")
    try:
        with registry.blob(Descriptor(_PAYLOAD, str(digest), size, ("", ""), ""), 0) as response:
            data = response.read(size + 1, decode_content=False)
    except urllib3.exceptions.HTTPError as error:
        raise HostError(_STEP, name, f"a signature could not be read: {printable(str(error))}") from error
    if len(data) != size or manifest.digest_of(data) != digest:
        raise ImageError(_STEP, name, "a signature is not what its digest says")
    return data


def _is_signed(key: PublicKey, signature: bytes, payload: bytes) -> bool:
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, payload, ec.ECDSA(hashes.SHA256()))
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, payload, padding.PKCS1v15(), hashes.SHA256())
        else:
            key.verify(signature, payload)
    except InvalidSignature:
        return False
    return True


def _names(payload: bytes, digest: str, name: str) -> bool:
    """Whether it is this image that a payload speaks of. Raises ImageError."""
    document = manifest.parse_json(payload, name)
    critical = document.get("critical") if isinstance(document, dict) else None
    image = critical.get("image") if isinstance(critical, dict) else None
    if not isinstance(critical, dict) or not isinstance(image, dict):
        return False
    return critical.get("type") == _KIND and image.get("docker-manifest-digest") == digest
