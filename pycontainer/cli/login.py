"""`login` and `logout`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from pycontainer.cli.main import notice
from pycontainer.errors import UsageError
from pycontainer.image.reference import DEFAULT_DOMAIN
from pycontainer.image.registry import credentials
from pycontainer.image.registry.credentials import Credentials

if TYPE_CHECKING:
    from pycontainer.engine.settings import Settings


def login(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer login`: ask, try, and keep. Raises UsageError, HostError, OSError."""
    from pycontainer.image.registry.client import check_login

    domain = _domain(operands)
    if "password" in values and "password_stdin" in values:
        raise UsageError("login", "", "--password and --password-stdin", "leave one of the two away")
    if "password_stdin" in values:
        if "username" not in values:
            raise UsageError("login", "--password-stdin", "whose password is it", "-u NAME")
        password = sys.stdin.read().rstrip("\r\n")
    elif "password" in values:
        notice("warning: who lists the processes sees a password that is given by --password: use --password-stdin")
        password = values["password"]
    else:
        password = ""
    username = values.get("username") or _ask("Username: ")
    if not password and "password_stdin" not in values:
        import getpass

        _check_terminal()
        password = getpass.getpass("Password: ")
    if not username or not password:
        raise UsageError("login", domain, "a name and a password are needed")
    found = Credentials(username, password)
    check_login(domain, found)
    path = credentials.store(domain, found)
    notice(f"the password is kept in {path}, which only its owner can read")
    sys.stdout.write("Login Succeeded\n")
    return 0


def logout(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """`pycontainer logout`. Raises UsageError, OSError."""
    domain = _domain(operands)
    if credentials.erase(domain):
        sys.stdout.write(f"Removing login credentials for {domain}\n")
    else:
        sys.stdout.write(f"Not logged in to {domain}\n")
    return 0


def _domain(operands: list[str]) -> str:
    """The registry as image names have it. Raises UsageError."""
    server = operands[0] if operands else DEFAULT_DOMAIN
    domain = server.split("://", 1)[-1].split("/", 1)[0]
    if not domain or any(not (c.isascii() and (c.isalnum() or c in ".-:[]")) for c in domain):
        raise UsageError("login", repr(server), "not a registry's name", "HOST or HOST:PORT")
    return DEFAULT_DOMAIN if domain in ("index.docker.io", "registry-1.docker.io") else domain


def _ask(prompt: str) -> str:
    _check_terminal()
    sys.stderr.write(prompt)
    sys.stderr.flush()
    return sys.stdin.readline().strip()


def _check_terminal() -> None:
    if not sys.stdin.isatty():
        raise UsageError("login", "", "standard input is not a terminal", "-u NAME --password-stdin")
