"""What the script of `run --explain=script` makes, as values."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontainer.engine.bundle import Json


class Plan:
    """What the script makes.

    config     config.json as a value
    layers     their directories, base first
    files      path on the host -> text, of what is written for the container: hosts, hostname, resolv.conf
    anonymous  sources in config.json that go with the container
    modes      mount point of a tmpfs -> mode of the directory that it covers
    mode       of the network: bridge, none or host
    subnet     of the bridge, for the mode bridge
    hierarchy  where cgroup2 is mounted, "" where it is not
    omitted    options that the script does without
    """

    def __init__(
        self,
        config: Json,
        *,
        layers: list[str],
        files: dict[str, str],
        anonymous: list[str],
        modes: dict[str, int],
        mode: str,
        subnet: str,
        hierarchy: str,
        omitted: list[str],
    ) -> None:
        self.config = config
        self.layers = layers
        self.files = files
        self.anonymous = anonymous
        self.modes = modes
        self.mode = mode
        self.subnet = subnet
        self.hierarchy = hierarchy
        self.omitted = omitted
        self.process: Json = config["process"]
        self.linux: Json = config["linux"]
        maps = self.linux.get("uidMappings") or []
        self.base: int | None = maps[0]["hostID"] if maps else None
        self.ids: int = maps[0]["size"] if maps else 0
        self.binds = [mount for mount in config["mounts"] if mount["type"] == "bind" and mount["source"] != "/sys"]
        names = (["user"] if maps else []) + (["net"] if mode != "host" else [])
        self.held = [f"--{name}" for name in names]


def bind_option(mount: Json) -> str:
    """What mount(8) is given for a bind mount of config.json."""
    return "--rbind" if "rbind" in mount["options"] else "--bind"
