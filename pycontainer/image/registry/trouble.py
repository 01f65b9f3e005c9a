"""What goes wrong between a client and a registry, in words, and whether it may pass."""

from __future__ import annotations

import json
import ssl
from typing import TYPE_CHECKING, Any

import urllib3

from pycontainer.errors import HostError, printable

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

WAY = "is there a way to it?"
_WITHOUT = f"{WAY} Without network: pycontainer load, import, or the built-in image busybox"
_MAX_ERROR = 1 << 16  # bytes of an error's body that are read


class NotTLS(HostError):
    """Whoever answers does not speak TLS, so that what http says counts, if it is tried."""


def may_pass(status: int) -> bool:
    """Whether asking again may give another answer."""
    return status == 429 or status >= 500


def is_final(error: Exception) -> bool:
    """Whether asking again is of no use: a certificate stays what it is, and so does a name that nobody knows."""
    return isinstance(error, (urllib3.exceptions.SSLError, urllib3.exceptions.NameResolutionError))


def words(response: BaseHTTPResponse) -> str:
    """`: ` and what an error's body says: specification, "Error Codes"; "" where it says nothing."""
    try:
        document = json.loads(response.read(_MAX_ERROR))
        errors = document.get("errors") or [{"message": document.get("details") or document.get("message")}]
        text = "; ".join(str(error.get("message") or error.get("code")) for error in errors[:3])
        return f": {printable(text[:300]).lower()}" if text and text != "None" else ""
    except (ValueError, AttributeError, TypeError, RecursionError, urllib3.exceptions.HTTPError):
        return ""


def unreachable(host: str, error: Exception, hint: str = _WITHOUT) -> HostError:
    """What to raise where the way to a registry is in trouble."""
    step = "connect to the registry"
    reason: Any = error
    while isinstance(reason, urllib3.exceptions.HTTPError):
        inner = getattr(reason, "reason", None) or reason.__cause__ or next(iter(reason.args), None)
        if not isinstance(inner, Exception):
            break
        reason = inner
    if isinstance(reason, ssl.SSLError):
        cause = printable(str(getattr(reason, "verify_message", "") or reason.reason or reason)).lower()
        if "wrong_version" in cause or "record_layer" in cause:
            remedy = f'if it should be asked by http: insecure = true below [registry."{host}"] in config.toml'
            return NotTLS(step, host, f"it does not speak tls: {cause}", remedy)
        remedy = f"put the authority's certificate into /etc/pycontainer/certs.d/{host}/ca.crt"
        return HostError(step, host, f"its certificate is not accepted: {cause}", remedy)
    cause = getattr(reason, "strerror", None) or str(reason).rpartition(": ")[2] or type(reason).__name__
    return HostError(step, host, printable(str(cause)).lower(), hint)
