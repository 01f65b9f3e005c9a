"""The three networks that there are, in Docker's shape: bridge, host, none."""

from __future__ import annotations

# Not hashlib, because that loads OpenSSL.
import _blake2

from pycontainer.errors import Conflict, NotFound
from pycontainer.network import lease

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from typing import Any

    from pycontainer.engine.containers import Container
    from pycontainer.engine.settings import Settings

Json = dict[str, "Any"]

DRIVERS = {"bridge": "bridge", "host": "host", "none": "null"}
# Docker's way to say that a time is not known: the zero value of Go's time.
NO_TIME = "0001-01-01T00:00:00Z"


def identify(settings: Settings, *words: str) -> str:
    """64 hexadecimal digits that stand for what the words name in this installation, as Docker's random ids do."""
    text = "\0".join((settings.root, *words))
    return _blake2.blake2b(text.encode(errors="surrogateescape"), digest_size=32).hexdigest()


def find(settings: Settings, name_or_id: str) -> str:
    """The name of the network with that name, id, or beginning of an id. Raises NotFound, Conflict."""
    if name_or_id in DRIVERS:
        return name_or_id
    names = [name for name in DRIVERS if name_or_id and identify(settings, name).startswith(name_or_id)]
    if not names:
        raise NotFound("find network", name_or_id, "no such network", "pycontainer network ls lists them")
    if len(names) > 1:
        raise Conflict("find network", name_or_id, "more than one network's id begins so")
    return names[0]


def of(container: Container) -> str:
    """The name of its network; empty for a container of an older pycontainer's, which did not keep it."""
    try:
        return container.config.network.mode
    except Conflict:
        return ""


def describe(settings: Settings, connection: sqlite3.Connection, name_or_id: str) -> Json:
    """As `docker network inspect` shows it, with the containers that run in it. Raises NotFound, Conflict."""
    from pycontainer.engine import containers

    name = find(settings, name_or_id)
    inside = [each for each in containers.list_all(connection) if each.is_active and of(each) == name]
    stored = lease.find(connection, name)
    return {
        "Name": name,
        "Id": identify(settings, name),
        "Created": NO_TIME,
        "Scope": "local",
        "Driver": DRIVERS[name],
        "EnableIPv4": True,
        "EnableIPv6": False,
        "IPAM": {
            "Driver": "default",
            "Options": None,
            "Config": [{"Subnet": stored.subnet, "Gateway": stored.gateway}] if stored else [],
        },
        "Internal": False,
        "Attachable": False,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": {
            container.id: _endpoint(Endpoint(settings, connection, name, container), container) for container in inside
        },
        "Options": _options(stored),
        "Labels": {},
    }


def _options(stored: lease.StoredNetwork | None) -> dict[str, str]:
    if stored is None:
        return {}
    return {
        "com.docker.network.bridge.default_bridge": "true",
        "com.docker.network.bridge.enable_icc": "true",
        "com.docker.network.bridge.enable_ip_masquerade": "true",
        "com.docker.network.bridge.host_binding_ipv4": "0.0.0.0",
        "com.docker.network.bridge.name": stored.interface,
    }


def _endpoint(endpoint: Endpoint, container: Container) -> Json:
    address = f"{endpoint.address}/{endpoint.prefix_length}" if endpoint.address else ""
    return {
        "Name": container.name,
        "EndpointID": endpoint.id,
        "MacAddress": endpoint.mac_address,
        "IPv4Address": address,
        "IPv6Address": "",
    }


class Endpoint:
    """A container's place in a network; all but `network_id` is empty, or 0, while it does not run.

    address, gateway  IPv4, such as 10.99.0.2; empty where the network has none
    prefix_length     bits of the subnet
    """

    __slots__ = ("address", "gateway", "id", "mac_address", "network_id", "prefix_length")

    def __init__(self, settings: Settings, connection: sqlite3.Connection, network: str, container: Container) -> None:
        self.network_id = identify(settings, network)
        self.id = identify(settings, network, container.id) if container.is_active else ""
        self.address, self.gateway, self.mac_address, self.prefix_length = "", "", "", 0
        stored = lease.find(connection, network) if container.is_active else None
        if stored is None:
            return
        self.address = lease.address_of(connection, network, container.id)
        if self.address:
            self.gateway = stored.gateway
            _, self.prefix_length = lease.split_subnet(stored.subnet)
            # Made of the address: see attach.py.
            self.mac_address = (b"\x02\x42" + lease.pack_address(self.address)).hex(":")

    def describe(self) -> Json:
        """As one of NetworkSettings.Networks of the Engine API."""
        return {
            "IPAMConfig": None,
            "Links": None,
            "Aliases": None,
            "MacAddress": self.mac_address,
            "DriverOpts": None,
            "NetworkID": self.network_id,
            "EndpointID": self.id,
            "Gateway": self.gateway,
            "IPAddress": self.address,
            "IPPrefixLen": self.prefix_length,
            "IPv6Gateway": "",
            "GlobalIPv6Address": "",
            "GlobalIPv6PrefixLen": 0,
            "DNSNames": None,
        }
