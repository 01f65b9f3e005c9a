"""What a container is to have of the network."""

from __future__ import annotations

from pycontainer.engine.config.ports import PortOptions
from pycontainer.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

Values = dict[str, "Any"]


class Network:
    """Where a container stands in the network.

    mode       bridge, none or host
    hostname   "" where it was not said
    ports      what -p, -P and --expose say
    add_host   NAME:ADDRESS
    """

    __slots__ = ("add_host", "dns", "dns_options", "dns_search", "hostname", "mode", "ports")

    def __init__(self, values: Values) -> None:
        self.mode = _mode(values.get("network"))
        self.hostname = _hostname(values.get("hostname") or "")
        self.ports = PortOptions(values)
        self.dns: list[str] = list(values.get("dns") or [])
        self.dns_search: list[str] = list(values.get("dns_search") or [])
        self.dns_options: list[str] = list(values.get("dns_option") or [])
        self.add_host: list[str] = list(values.get("add_host") or [])


def _mode(text: str | None) -> str:
    name = {None: "bridge", "": "bridge", "default": "bridge"}.get(text, text or "")
    if name not in ("bridge", "none", "host"):
        raise UsageError("--network", repr(text), "no such network", "bridge, none or host")
    return name


def _hostname(text: str) -> str:
    if len(text) > 64 or any(character.isspace() or character == "/" for character in text):
        raise UsageError("--hostname", repr(text), "not a host name", "at most 64 characters, no spaces")
    return text
