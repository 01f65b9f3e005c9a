"""Names and passwords for registries: our own file, and what docker keeps.

Ours is ~/.pycontainer/auth.json of whoever calls, or for root /etc/pycontainer/auth.json; in the form of docker's
config.json, so that either can be copied. Docker's is read, of the user behind sudo too, with its credential helpers.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import pwd
import subprocess
from typing import Any, NamedTuple

from pycontainer.errors import HostError, UsageError
from pycontainer.image.reference import DEFAULT_DOMAIN

_OWN = "/etc/pycontainer/auth.json"
_HUB = "https://index.docker.io/v1/"
_HELPER_SECONDS = 30


class Credentials(NamedTuple):
    """Who asks: a name and a password, or a token in place of the password."""

    username: str
    password: str
    identity_token: str = ""


def find(domain: str) -> Credentials | None:
    """Those for a registry, None where nobody has logged in. Raises UsageError, HostError."""
    for path in [own_path(), *_docker_paths()]:
        document = _read(path)
        helper = _mapping(path, document, "credHelpers").get(_key(domain)) or _helper_for_all(path, document, domain)
        if helper and (found := _ask_helper(str(helper), _key(domain))):
            return found
        for key, entry in _mapping(path, document, "auths").items():
            if _host(key) == _host(_key(domain)) and (found := _entry(path, key, entry)):
                return found
    return None


def store(domain: str, credentials: Credentials) -> str:
    """Keep them; the file. Raises OSError, UsageError."""
    path = own_path()
    document = _read(path)
    pair = f"{credentials.username}:{credentials.password}".encode(errors="surrogateescape")
    entry = {"auth": base64.b64encode(pair).decode()}
    if credentials.identity_token:
        entry["identitytoken"] = credentials.identity_token
    _write(path, {**document, "auths": {**_mapping(path, document, "auths"), _key(domain): entry}})
    return path


def erase(domain: str) -> bool:
    """Forget them; whether there were any of ours. Raises OSError, UsageError."""
    path = own_path()
    document = _read(path)
    entries = _mapping(path, document, "auths")
    left = {key: entry for key, entry in entries.items() if _host(key) != _host(_key(domain))}
    if len(left) == len(entries):
        return False
    _write(path, {**document, "auths": left})
    return True


def own_path() -> str:
    """Where ours are kept."""
    if path := os.environ.get("PYCONTAINER_AUTH"):
        return path
    return _OWN if os.geteuid() == 0 else os.path.expanduser("~/.pycontainer/auth.json")


def _docker_paths() -> list[str]:
    directory = os.environ.get("DOCKER_CONFIG")
    homes = [directory] if directory else [os.path.expanduser("~/.docker")]
    # Whoever typed sudo has logged in as himself.
    if os.geteuid() == 0 and not directory and (user := os.environ.get("SUDO_USER")):
        try:
            homes.insert(0, f"{pwd.getpwnam(user).pw_dir}/.docker")
        except KeyError:
            pass
    return [f"{home}/config.json" for home in homes]


def _key(domain: str) -> str:
    return _HUB if domain == DEFAULT_DOMAIN else domain


def _host(key: str) -> str:
    """What a key stands for: it may be written with a scheme and a path."""
    host = key.split("://", 1)[-1].split("/", 1)[0]
    return "index.docker.io" if host in ("docker.io", "registry-1.docker.io") else host


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise UsageError("read credentials", path, (error.strerror or str(error)).lower()) from None
    except (ValueError, RecursionError):
        raise UsageError("read credentials", path, "not JSON", "mend it, or remove it and log in again") from None
    if not isinstance(document, dict):
        raise UsageError("read credentials", path, "not a JSON object", "mend it, or remove it and log in again")
    return document


def _mapping(path: str, document: dict[str, Any], name: str) -> dict[str, Any]:
    found = document.get(name) or {}
    if not isinstance(found, dict):
        raise UsageError("read credentials", path, f"{name} is not a JSON object", "mend it")
    return found


def _entry(path: str, key: str, entry: Any) -> Credentials | None:
    if not isinstance(entry, dict):
        raise UsageError("read credentials", path, f"auths: {key}: not a JSON object", "mend it")
    text, token = entry.get("auth") or "", entry.get("identitytoken") or ""
    if not text and not token:
        return None
    try:
        username, _, password = base64.b64decode(text, validate=True).decode().partition(":")
    except (binascii.Error, ValueError, TypeError):
        raise UsageError(
            "read credentials", path, f"auths: {key}: not base64 of NAME:PASSWORD", "log in again"
        ) from None
    return Credentials(username, password.rstrip("\0"), str(token))


def _helper_for_all(path: str, document: dict[str, Any], domain: str) -> str:
    name = document.get("credsStore") or ""
    if not isinstance(name, str):
        raise UsageError("read credentials", path, "credsStore is not a name", "mend it")
    return name


def _ask_helper(name: str, server: str) -> Credentials | None:
    """What `docker-credential-NAME get` says; None where it knows nothing. Raises HostError."""
    program = f"docker-credential-{os.path.basename(name)}"
    try:
        result = subprocess.run(
            [program, "get"], input=server.encode(), capture_output=True, timeout=_HELPER_SECONDS, check=False
        )
        if result.returncode != 0:
            said = (result.stdout + result.stderr).decode(errors="replace").strip()
            if "credentials not found" in said:
                return None
            raise HostError("ask for credentials", program, said[:200].lower() or f"status {result.returncode}")
        found = json.loads(result.stdout)
        username, secret = str(found["Username"]), str(found["Secret"])
    except FileNotFoundError:
        raise HostError("ask for credentials", program, "command not found", "docker's config.json names it") from None
    except subprocess.TimeoutExpired:
        raise HostError("ask for credentials", program, f"no answer in {_HELPER_SECONDS} s") from None
    except (ValueError, KeyError, TypeError):
        raise HostError("ask for credentials", program, "what it says is not what a helper says") from None
    return Credentials("", "", secret) if username == "<token>" else Credentials(username, secret)


def _write(path: str, document: dict[str, Any]) -> None:
    """All of it or nothing, and readable for its owner alone."""
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    partial = f"{path}.{os.urandom(4).hex()}"
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "w") as file:
            file.write(json.dumps(document, indent=4) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.rename(partial, path)
    except BaseException:
        os.unlink(partial)
        raise
