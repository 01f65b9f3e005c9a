"""Image references: `[DOMAIN/]PATH[:TAG][@DIGEST]`, parsed as Docker's reference grammar has them.

A short name is completed the way Docker completes it: `alpine` means `docker.io/library/alpine:latest`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from pycontainer.errors import UsageError

DEFAULT_DOMAIN = "docker.io"
OFFICIAL_PREFIX = "library/"
DEFAULT_TAG = "latest"
MAX_PATH_LENGTH = 255
HUB = "registry-1.docker.io"  # where the images of the default domain are
_HTTPS = ":443"

_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"
_REFERENCE = re.compile(
    rf"(?P<domain>{_DOMAIN})/(?P<path>{_COMPONENT}(?:/{_COMPONENT})*)"
    rf"(?::(?P<tag>\w[\w.-]{{0,127}}))?(?:@(?P<digest>{_DIGEST}))?",
    re.ASCII,
)
_DIGEST_LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128}
_HEX = re.compile(r"[0-9a-f]+")


class Reference(NamedTuple):
    """A complete reference. `tag` and `digest` may be empty, but not both unless it was parsed with `tagged=False`."""

    domain: str
    path: str
    tag: str
    digest: str

    @property
    def name(self) -> str:
        """Domain and path: the repository."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_name(self) -> str:
        """The repository as people write it: without the default domain and `library/`."""
        if self.domain != DEFAULT_DOMAIN:
            return self.name
        short = self.path.removeprefix(OFFICIAL_PREFIX)
        return self.path if "/" in short else short

    @property
    def familiar(self) -> str:
        """The short form for display: `alpine:latest`."""
        return self.familiar_name + self._suffix

    @property
    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def __str__(self) -> str:
        return self.name + self._suffix


def parse(text: str, tagged: bool = True) -> Reference:
    """Parse and complete `text`. With `tagged`, a reference with neither tag nor digest gets the default tag.

    Raises UsageError, saying which part is wrong.
    """
    if re.fullmatch(r"[0-9a-f]{64}", text):
        raise _invalid(text, "64 hexadecimal digits are an image ID, not a name")
    domain, remainder = _split_domain(text)
    path = remainder.split(":", 1)[0]
    if path.split("@", 1)[0] != path.split("@", 1)[0].lower():
        raise _invalid(text, "the repository must be lower case")
    match = _REFERENCE.fullmatch(f"{domain}/{remainder}")
    if match is None or match["domain"] != domain:
        raise _invalid(text, "a reference is [HOST[:PORT]/]NAME[:TAG][@DIGEST]" if text else "it is empty")
    if len(match["path"]) > MAX_PATH_LENGTH:
        raise _invalid(text, f"the repository is longer than {MAX_PATH_LENGTH} characters")
    tag, digest = match["tag"] or "", match["digest"] or ""
    if digest:
        _check_digest(text, digest)
    if tagged and not tag and not digest:
        tag = DEFAULT_TAG
    return Reference(domain, match["path"], tag, digest)


def parse_name(text: str) -> Reference:
    """Parse and complete what an image is to be called: no digest, and nothing that is read as an image's ID.

    Raises UsageError.
    """
    parsed = parse(text)
    if parsed.digest:
        raise _invalid(text, "a name cannot hold a digest")
    if parsed.familiar_name in _DIGEST_LENGTHS:
        raise _invalid(text, f"`{parsed.familiar_name}:` is how an image's ID begins, not a name")
    return parsed


def canonical(name: str) -> str:
    """A repository, or the beginning of one: one text for all that lead to the same registry."""
    domain, slash, path = name.partition("/")
    # Whatever the case, and with the port of https or without, it is the same host.
    host = domain.lower().removesuffix(_HTTPS)
    return (DEFAULT_DOMAIN if host == HUB else host) + slash + path


def _split_domain(text: str) -> tuple[str, str]:
    """Domain and the rest. The first component is a domain if it looks like one, or is localhost, or has upper case."""
    first, slash, rest = text.partition("/")
    if not slash or (not set(first) & set(".:") and first != "localhost" and first == first.lower()):
        first, rest = DEFAULT_DOMAIN, text
    if first == f"index.{DEFAULT_DOMAIN}":  # the name that Docker's first clients used
        first = DEFAULT_DOMAIN
    if first == DEFAULT_DOMAIN and "/" not in rest:
        rest = OFFICIAL_PREFIX + rest
    return first, rest


def _check_digest(text: str, digest: str) -> None:
    algorithm, _, value = digest.partition(":")
    if algorithm not in _DIGEST_LENGTHS:
        raise _invalid(text, f"unsupported digest algorithm {algorithm}")
    if len(value) != _DIGEST_LENGTHS[algorithm] or not _HEX.fullmatch(value):
        raise _invalid(text, f"a {algorithm} digest is {_DIGEST_LENGTHS[algorithm]} lower case hexadecimal digits")


def _invalid(text: str, cause: str) -> UsageError:
    return UsageError("invalid image reference", repr(text), cause)
