"""Whose signature an image must have: [signatures] in config.toml.

[signatures]
"registry.example.com/team" = "/etc/pycontainer/keys/team.pub"     # the name, and all below it
"registry.example.com" = "/etc/pycontainer/keys/all.pub"           # the longest that fits a name is the one that counts

    pull            verifies, and records which image was verified with which key
    run, create     refuse what was never verified with the key that the file holds now

What is recorded is the image's ID, the digest of its config: that names every layer by its unpacked digest, so an image
that is the same to the last byte has been verified, whatever brought it here, and no other has. The key is recorded by
its digest, so that another key in the same file means to verify again.

This module is imported by `run`: where there is no such table it costs one open(2).
"""

from __future__ import annotations

from pycontainer.errors import Conflict, UsageError
from pycontainer.image import config_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontainer.image.reference import Reference
    from pycontainer.image.store import Image, Store

_STEP = "check signature policy"
_LARGEST_KEY = 64 << 10  # bytes


class Rule:
    """`prefix`: as the table has it; `key`: path of the file with the public key."""

    __slots__ = ("key", "prefix")

    def __init__(self, prefix: str, key: str) -> None:
        self.prefix = prefix
        self.key = key


def find(name: Reference) -> Rule | None:
    """What holds for images of that name; None where no matter who has signed them. Raises UsageError."""
    return _longest(_rules(), name)


def check(store: Store, image: Image, asked: str) -> None:
    """Raise Conflict unless an image that was asked for by that name or ID was verified as the policy wants it.

    By its ID it has all of its names. Raises UsageError where the table or a key cannot be read.
    """
    rules = _rules()
    for name in _names(image, asked) if rules else ():
        rule = _longest(rules, name)
        if rule is not None and not store.is_verified(image.id, digest_of(read_key(rule.key, _STEP))):
            cause = f'[signatures] "{rule.prefix}" wants it verified with {rule.key}, and it never was'
            raise Conflict(_STEP, name.familiar, cause, f"`pycontainer pull {name.familiar}` verifies it")


def prepare() -> None:
    """Import what `check` needs, where there is a policy: for a process that is forked before each check."""
    try:
        if _rules():
            digest_of(b"")
    except UsageError:
        # The one that checks tells it to somebody.
        pass


def read_key(path: str, step: str) -> bytes:
    """The file of a public key. Raises UsageError."""
    try:
        with open(path, "rb") as file:
            return file.read(_LARGEST_KEY)
    except OSError as error:
        raise UsageError(step, path, (error.strerror or str(error)).lower()) from None


def digest_of(key: bytes) -> str:
    """By which a key is recorded, from what its file holds."""
    import hashlib

    return hashlib.sha256(key).hexdigest()


def _rules() -> dict[str, Rule]:
    """By the canonical prefix. Raises UsageError."""
    data = config_file.read()
    # The table's name is in it as it is, unless it is written with escapes. No parser is imported for other tables.
    if data is None or (b"signatures" not in data and b"\\" not in data):
        return {}
    from pycontainer.image.reference import canonical
    from pycontainer.image.registry import config

    return {canonical(prefix): Rule(prefix, key) for prefix, key in config.signatures().items()}


def _longest(rules: dict[str, Rule], name: Reference) -> Rule | None:
    if not rules:
        return None
    from pycontainer.image.reference import canonical

    wanted = {canonical(name.name)}
    if name.familiar_name != name.name:
        # An official image, which people call docker.io/alpine as well.
        wanted.add(f"{name.domain}/{name.familiar_name}")
    found = [prefix for prefix in rules if any(f"{each}/".startswith(f"{prefix}/") for each in wanted)]
    return rules[max(found, key=len)] if found else None


def _names(image: Image, asked: str) -> list[Reference]:
    """Those by which the image is asked for."""
    from pycontainer.image import reference

    try:
        name = reference.parse(asked)
    except UsageError:
        name = None
    if name is not None and (name.familiar in image.names or name.digest):
        return [name]
    return [reference.parse(each) for each in image.names]
