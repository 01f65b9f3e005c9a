"""`pull --verify` and [signatures]: what cosign signs with a key, checked without asking anybody but the registry.

    tag sha256-HEX.sig     a manifest beside the image whose digest is sha256:HEX: cosign's signature specification
    └─ layers              each a payload; the annotation dev.cosignproject.cosign/signature signs its bytes
       └─ payload          {"critical": {"image": {"docker-manifest-digest": "sha256:HEX"}, …}}

    referrers of sha256:HEX   or the index with the tag sha256-HEX where the registry has no such list: cosign 3
    └─ manifest
       └─ layer               a Sigstore bundle (bundle.py)

What is signed is the digest, so a name that leads to another image tomorrow is refused. No transparency log is asked.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import urllib3
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from pycontainer.errors import HostError, ImageError, NotFound, UsageError, printable
from pycontainer.image import manifest, policy
from pycontainer.image.manifest import Descriptor
from pycontainer.image.registry import bundle

if TYPE_CHECKING:
    from pycontainer.image.registry.client import Registry

    PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey

_PAYLOAD = "application/vnd.dev.cosign.simplesigning.v1+json"
_ANNOTATION = "dev.cosignproject.cosign/signature"
_KIND = "cosign container image signature"
_LARGEST_PAYLOAD = 1 << 20  # bytes
_MOST = 100  # signatures of each kind that are looked at; anybody who may push can add some
# What an index has for the type of a bundle, where whoever wrote it took that of its config.
_EMPTY = "application/vnd.oci.empty.v1+json"
_STEP = "verify"


class Key(NamedTuple):
    """`digest`: of its file, by which it is recorded."""

    public: PublicKey
    digest: str


class Signature(NamedTuple):
    """`signed`: the bytes that `value` is to be a signature of; `names`: whether they say that `digest` is signed."""

    digest: str
    signed: bytes
    value: bytes
    names: bool


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
    for each in _signatures(registry, list(dict.fromkeys(digests)), name):
        count += 1
        by = next((key.digest for key in keys if each.names and _is_signed(key.public, each.value, each.signed)), None)
        if by is not None:
            return by, each.digest
    if not count:
        cause, hint = "it is not signed", "signatures are looked for as cosign stores them beside an image"
    else:
        cause = f"none of its {count} signatures is good for this image and key" if count > 1 else (
            "its signature is not good for this image and key"
        )  # fmt: skip
        hint = "the key is another, or somebody has changed the image"
    raise ImageError(_STEP, name, f"{cause} ({digests[0][:19]}…)", hint)


def _signatures(registry: Registry, digests: list[str], name: str) -> Iterator[Signature]:
    """All that are said to be one. Raises ImageError, HostError, UsageError."""
    for digest in digests:
        yield from _tagged(registry, digest, name)
    # Only then, because not every registry answers well when it is asked for referrers.
    for digest in digests:
        yield from _bundled(registry, digest, name)


def _tagged(registry: Registry, digest: str, name: str) -> Iterator[Signature]:
    """Those beside the image. Raises ImageError, HostError, UsageError."""
    try:
        data, _ = registry.manifest(f"{digest.replace(':', '-')}.sig")
    except NotFound:
        return
    for layer in _layers(data, name)[:_MOST]:
        value = _signature(layer)
        if value is not None:
            payload = _fetch(registry, layer, name)
            yield Signature(digest, payload, value, _names(payload, digest, name))


def _bundled(registry: Registry, digest: str, name: str) -> Iterator[Signature]:
    """Those in bundles. What is no bundle is passed over. Raises ImageError, HostError, UsageError."""
    for entry in [each for each in registry.referrers(digest) if _may_be_bundle(each)][:_MOST]:
        try:
            data, _ = registry.manifest(entry["digest"])
            layer = next(iter(_layers(data, name)), None)
            if not isinstance(layer, dict) or not str(layer.get("mediaType")).startswith(bundle.MEDIA_TYPE):
                continue
            found = bundle.parse(_fetch(registry, layer, name), digest)
            if found is None:
                continue
            signed = registry.manifest(digest)[0] if found.signed is None else found.signed
        except (NotFound, ImageError):
            # Somebody has removed it meanwhile, or it is broken: which is nothing against the others.
            continue
        for value in found.signatures:
            yield Signature(digest, signed, value, found.names)


def _may_be_bundle(entry: Any) -> bool:
    if not isinstance(entry, dict) or not manifest.is_digest(entry.get("digest")):
        return False
    kind = entry.get("artifactType")
    return kind in (None, "", _EMPTY) or str(kind).startswith(bundle.MEDIA_TYPE)


def _layers(data: bytes, name: str) -> list[Any]:
    document = manifest.parse_json(data, name)
    layers = document.get("layers") if isinstance(document, dict) else None
    return layers if isinstance(layers, list) else []


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
    """Whether it is this image that a payload speaks of."""
    try:
        document = manifest.parse_json(payload, name)
    except ImageError:
        return False
    critical = document.get("critical") if isinstance(document, dict) else None
    image = critical.get("image") if isinstance(critical, dict) else None
    if not isinstance(critical, dict) or not isinstance(image, dict):
        return False
    return critical.get("type") == _KIND and image.get("docker-manifest-digest") == digest
