"""One container in Docker's shape: ContainerInspect of the Engine API, field by field."""

from __future__ import annotations

from pycontainer.engine import evidence, inspect_config, ports, volumes
from pycontainer.engine.networks import NO_TIME, Endpoint
from pycontainer.image.store import Store
from pycontainer.monitor.clock import rfc3339

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from typing import Any

    from pycontainer.engine.config.container import ContainerConfig
    from pycontainer.engine.containers import Container
    from pycontainer.engine.settings import Settings
    from pycontainer.image.store import Image

Json = dict[str, "Any"]

DRIVER = "overlay"


def describe(settings: Settings, connection: sqlite3.Connection, container: Container) -> Json:
    """The container as `docker inspect` shows it. Raises Conflict, NotFound."""
    asked = container.config
    image = Store(settings.root, connection).resolve(container.image_id)
    image_config: Json = image.config.get("config") or {}
    directory = settings.container_directory(container.id)
    path, *args = container.command
    return {
        "Id": container.id,
        "Created": rfc3339(container.created),
        "Path": path,
        "Args": args,
        "State": state(settings, container),
        "Image": container.image_id,
        "ResolvConfPath": f"{directory}/resolv.conf",
        "HostnamePath": f"{directory}/hostname",
        "HostsPath": f"{directory}/hosts",
        "LogPath": "" if asked.log.driver == "none" else f"{directory}/log",
        "Name": f"/{container.name}",
        "RestartCount": container.restart_count,
        "Driver": DRIVER,
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": None,
        "HostConfig": inspect_config.host_config(asked, image_config),
        "GraphDriver": {"Data": _overlay(directory, container, image), "Name": DRIVER},
        "Mounts": volumes.mounts(settings, connection, container),
        "Config": inspect_config.config(asked, image_config, container.id),
        "NetworkSettings": _network_settings(settings, connection, container, asked),
    }


def state(settings: Settings, container: Container) -> Json:
    """`State`; docker calls a container running that is paused or waits for its restart.

    OOMKilled says that the container's own cgroup has counted a kill in its last run, of whichever process; OOMKills is
    ours, and says how many.
    """
    kills = evidence.count_oom_kills(settings, container)
    found: Json = {
        "Status": container.shown_status,
        "Running": container.status in ("running", "paused", "restarting"),
        "Paused": container.status == "paused",
        "Restarting": container.status == "restarting",
        "OOMKilled": kills > 0,
        "OOMKills": kills,
        "Dead": False,
        "Pid": container.pid,
        "ExitCode": container.exit_status or 0,
        "Error": container.error,
        "StartedAt": NO_TIME if container.started is None else rfc3339(container.started),
        "FinishedAt": NO_TIME if container.finished is None else rfc3339(container.finished),
    }
    return found | {"Health": container.health} if container.health else found


def _overlay(directory: str, container: Container, image: Image) -> Json:
    return {
        "LowerDir": ":".join(reversed(image.layers)),
        # The overlay is mounted in the container's own mount namespace only, and there it can be looked at.
        "MergedDir": f"/proc/{container.pid}/root" if container.is_active else "",
        "UpperDir": f"{directory}/upper",
        "WorkDir": f"{directory}/work",
    }


def _network_settings(
    settings: Settings, connection: sqlite3.Connection, container: Container, asked: ContainerConfig
) -> Json:
    names = [each.network for each in asked.network.attachments] or [asked.network.mode]
    endpoints = {name: Endpoint(settings, connection, name, container) for name in names}
    # As in Docker, what stands outside of Networks is that of the default bridge.
    endpoint = endpoints.get("bridge") or Endpoint(settings, connection, "", container)
    return {
        "Bridge": "",
        "SandboxID": container.id if container.is_active else "",
        "SandboxKey": f"/proc/{container.pid}/ns/net" if container.is_active else "",
        "Ports": ports.published(container),
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        "EndpointID": endpoint.id,
        "Gateway": endpoint.gateway,
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "IPAddress": endpoint.address,
        "IPPrefixLen": endpoint.prefix_length,
        "IPv6Gateway": "",
        "MacAddress": endpoint.mac_address,
        "Networks": {name: each.describe() for name, each in endpoints.items()},
    }
