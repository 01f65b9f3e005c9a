"""/etc/pycontainer/config.toml as bytes, for `run`, which mostly needs no parser. registry/config.py has one."""

from __future__ import annotations

import os

from pycontainer.errors import UsageError

_PATH = "/etc/pycontainer/config.toml"
STEP = "read configuration"


def path() -> str:
    """Where it is, or would be."""
    return os.environ.get("PYCONTAINER_CONFIG") or _PATH


def read() -> bytes | None:
    """What is in it; None where there is no such file. Raises UsageError."""
    try:
        with open(path(), "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(STEP, path(), (error.strerror or str(error)).lower()) from None
