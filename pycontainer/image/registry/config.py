"""Where images are asked for, and whose they must be: /etc/pycontainer/config.toml, and certificates in certs.d.

[images]
directory = "/srv/images"                                # in place of ROOT/images (directory.py)

[registry."docker.io"]
mirrors = ["https://mirror.example.com", "http://127.0.0.1:5000"]

[registry."registry.example.com:5000"]
insecure = true        # https without looking at the certificate, and then http

[signatures]                                             # of what is below a name: image/policy.py
"registry.example.com/team" = "/etc/pycontainer/keys/team.pub"

certs.d/HOST[:PORT]/*.crt        authorities besides the system's
certs.d/HOST[:PORT]/NAME.cert    our certificate, and in NAME.key its key
"""

from __future__ import annotations

import os
from ipaddress import ip_address
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from pycontainer.errors import UsageError
from pycontainer.image import config_file, reference
from pycontainer.image.reference import DEFAULT_DOMAIN, HUB, canonical

_CERTIFICATES = "/etc/pycontainer/certs.d:/etc/docker/certs.d"
_STEP = config_file.STEP
_TABLES = ("images", "registry", "signatures")


class Endpoint(NamedTuple):
    """One place where to ask.

    url           scheme and host, without a slash at its end
    verify        whether its certificate has to be a good one
    authorities   PEM text of those that may have signed it, "" for the system's
    certificate   paths of ours and its key
    """

    url: str
    verify: bool
    authorities: str
    certificate: tuple[str, str] | None


def endpoints(domain: str, *, mirrors: bool = True) -> list[Endpoint]:
    """Where an image of that domain is asked for, the mirrors first, if they are wanted. Raises UsageError."""
    entry = _entries().get(domain, {})
    insecure = entry.get("insecure", False)
    urls = [mirror.rstrip("/") for mirror in entry.get("mirrors", []) if mirrors]
    host = HUB if domain == DEFAULT_DOMAIN else domain
    urls.append(f"https://{host}")
    if insecure or _is_loopback(host):
        # As docker has it for a registry on this machine, which mostly has no certificate.
        urls.append(f"http://{host}")
    return [_endpoint(url, insecure) for url in urls]


def _endpoint(url: str, insecure: bool) -> Endpoint:
    authorities, certificate = _certificates(urlsplit(url).netloc) if url.startswith("https:") else ("", None)
    return Endpoint(url, not insecure, authorities, certificate)


def _is_loopback(host: str) -> bool:
    name = urlsplit(f"//{host}").hostname or ""
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def images_directory(root: str) -> str:
    """Where files with images are, for a store at `root`. Raises UsageError."""
    directory: str = _document().get("images", {}).get("directory") or f"{root}/images"
    return directory


def signatures() -> dict[str, str]:
    """Name or beginning of one -> path of the key that what is below it must be signed with. Raises UsageError."""
    entries: dict[str, str] = _document().get("signatures", {})
    return entries


def _entries() -> dict[str, dict[str, Any]]:
    entries: dict[str, dict[str, Any]] = _document().get("registry", {})
    return entries


def _document() -> dict[str, Any]:
    path, data = config_file.path(), config_file.read()
    if data is None:
        return {}
    import tomllib

    try:
        document = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(_STEP, path, f"not TOML: {error}") from None
    return _checked(path, document)


def _checked(path: str, document: dict[str, Any]) -> dict[str, Any]:
    for key in document:
        if key not in _TABLES:
            hint = 'there are [registry."HOST"], [images] and [signatures]'
            raise UsageError(_STEP, path, f"{key}: no such setting", hint)
    _check_images(path, document.get("images", {}))
    _check_signatures(path, document.get("signatures", {}))
    _check_registries(path, document.get("registry", {}))
    return document


def _check_registries(path: str, entries: Any) -> None:
    if not isinstance(entries, dict):
        raise UsageError(_STEP, path, "registry: not a table", '[registry."HOST"]')
    for domain, entry in entries.items():
        where = f'registry."{domain}"'
        if not isinstance(entry, dict):
            raise UsageError(_STEP, path, f"{where}: not a table", f"[{where}]")
        for key, value in entry.items():
            if key == "insecure" and not isinstance(value, bool):
                raise UsageError(_STEP, path, f"{where}.insecure: not a boolean", "true or false")
            if key == "mirrors" and not (isinstance(value, list) and all(map(_is_url, value))):
                raise UsageError(_STEP, path, f"{where}.mirrors: not a list of URLs", '["https://mirror.example.com"]')
            if key not in ("insecure", "mirrors"):
                raise UsageError(_STEP, path, f"{where}.{key}: no such setting", "there are insecure and mirrors")


def _check_images(path: str, images: Any) -> None:
    if not isinstance(images, dict):
        raise UsageError(_STEP, path, "images: not a table", "[images]")
    for key, value in images.items():
        if key != "directory":
            raise UsageError(_STEP, path, f"images.{key}: no such setting", "there is directory")
        if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
            raise UsageError(_STEP, path, "images.directory: not an absolute path", '"/srv/images"')


def _check_signatures(path: str, entries: Any) -> None:
    if not isinstance(entries, dict):
        raise UsageError(_STEP, path, "signatures: not a table", "[signatures]")
    known = set()
    for prefix, key in entries.items():
        where = f'signatures."{prefix}"'
        if not _is_prefix(prefix):
            hint = 'such as "registry.example.com/team" or "docker.io/library/alpine"'
            raise UsageError(_STEP, path, f"{where}: not HOST or HOST/PATH, without a tag", hint)
        if canonical(prefix) in known:
            raise UsageError(_STEP, path, f"{where}: another line means the same", "leave one of them")
        known.add(canonical(prefix))
        if not isinstance(key, str) or not key.startswith("/") or "\0" in key:
            hint = '"/etc/pycontainer/keys/team.pub", a public key in PEM'
            raise UsageError(_STEP, path, f"{where}: not the absolute path of a key", hint)


def _is_prefix(prefix: str) -> bool:
    """Whether names can be below it: a host, and perhaps the beginning of a path."""
    domain, slash, path = prefix.partition("/")
    below = f"{path}{slash}a/b"
    try:
        # Two components more, because of a single one below docker.io is thought that it is in library/.
        name = reference.parse(f"{domain}/{below}", tagged=False)
    except UsageError:
        return False
    return (name.domain, name.path, name.tag, name.digest) == (domain, below, "", "")


def _is_url(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        parts = urlsplit(value)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def _certificates(host: str) -> tuple[str, tuple[str, str] | None]:
    """PEM text of the authorities, and our own certificate with its key. Raises UsageError."""
    for directory in (os.environ.get("PYCONTAINER_CERTS") or _CERTIFICATES).split(":"):
        place = f"{directory}/{host}"
        try:
            names = sorted(os.listdir(place))
        except (FileNotFoundError, NotADirectoryError):
            continue
        authorities = "".join(_text(f"{place}/{name}") for name in names if name.endswith(".crt"))
        for name in names:
            if name.endswith(".cert"):
                key = f"{name.removesuffix('.cert')}.key"
                if key not in names:
                    raise UsageError("read certificates", f"{place}/{name}", f"there is no {key} beside it")
                return authorities, (f"{place}/{name}", f"{place}/{key}")
        return authorities, None
    return "", None


def _text(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return f"{file.read()}\n"
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError("read certificates", path, (getattr(error, "strerror", None) or "not PEM").lower()) from None
