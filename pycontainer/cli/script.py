"""`run --explain=script`: a shell script that makes the same container without pycontainer.

What it is to make is built as a start builds it, out of a container that is there only meanwhile. script_text.py words
it.
"""

from __future__ import annotations

import os
import sys

from pycontainer.cli import script_text
from pycontainer.cli.main import notice
from pycontainer.cli.script_plan import Plan
from pycontainer.engine import containers, teardown
from pycontainer.engine.config.container import ContainerConfig
from pycontainer.engine.create import create
from pycontainer.engine.database import open_database
from pycontainer.engine.repair import open_engine
from pycontainer.engine.settings import Settings
from pycontainer.engine.wiring import Wiring
from pycontainer.errors import UsageError
from pycontainer.image import overlay
from pycontainer.image.store import Store
from pycontainer.kernel import cgroup
from pycontainer.kernel.operation import Journal
from pycontainer.monitor import errand
from pycontainer.network import bridge
from pycontainer.runtime.operations.target import look

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pycontainer.engine.bundle import Json
    from pycontainer.monitor.messages import Message


def write(settings: Settings, values: dict[str, Any], asked: dict[str, Any]) -> int:
    """Print the script, or write it to the file of --explain-to; 0. Raises PycontainerError, OSError."""
    # Not asked for: a file that tells the id of a container that is gone.
    options = {name: value for name, value in asked["values"].items() if name != "cidfile"}
    config = ContainerConfig.from_request({**asked, "values": options})
    connection = open_engine(settings, notice)
    container = create(settings, connection, config)
    try:
        found, _ = errand.run(lambda: (_describe(settings, container.id), []))
    finally:
        teardown.remove(settings, connection, container.id, with_volumes=True)
    hierarchy = cgroup.find_hierarchy()
    text = script_text.text(
        Plan(
            found["config"],
            layers=found["layers"],
            files=found["files"],
            anonymous=found["anonymous"],
            modes=found["modes"],
            mode=config.network.mode,
            subnet=bridge.free_subnet() if config.network.mode == "bridge" else "",
            hierarchy=hierarchy.mountpoint if hierarchy is not None else "",
            omitted=_omitted(config),
        ),
        config.image,
    )
    _print(text, values.get("explain_to") or "")
    return 0


def _print(text: str, path: str) -> None:
    if not path:
        sys.stdout.write(text)
        return
    try:
        with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
    except OSError as error:
        raise UsageError("--explain-to", path, (error.strerror or "failed").lower()) from error


def _describe(settings: Settings, container_id: str) -> Message:
    """What a start would find out, with the root mounted in a mount namespace that goes with this process."""
    connection = open_database(settings.root)
    container = containers.get(connection, container_id)
    image = Store(settings.root, connection).get(container.image_id)
    journal, root = Journal(), settings.mount_point()
    directory = settings.container_directory(container_id)
    overlay.mount_root(journal, image.layers, directory, container.id_maps, root)
    wiring = Wiring(settings, container, container.config, image, journal)
    config = wiring.build(connection, root, notice)
    names = ("resolv.conf", "hosts", "hostname")
    return {
        "config": config,
        "layers": image.layers,
        "files": {f"{directory}/{name}": _read(f"{directory}/{name}") for name in names},
        "anonymous": _anonymous(connection, settings, container_id),
        "modes": _modes(root, config),
    }


def _omitted(config: ContainerConfig) -> list[str]:
    asked = {
        "-t": config.process.tty,
        "-p": bool(config.network.ports),
        "--network": bool(config.network.shares_container)
        or [each.network for each in config.network.attachments] not in ([], ["bridge"]),
        "--network-rate": config.network.rate is not None,
    }
    return [option for option, given in asked.items() if given]


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def _anonymous(connection: Any, settings: Settings, container_id: str) -> list[str]:
    """The directories of the volumes that go with the container."""
    from pycontainer.engine import volume_data, volumes

    return [
        volume_data.data(settings.root, mount.source)
        for mount in volumes.of(connection, container_id)
        if mount.anonymous
    ]


def _modes(root: str, config: Json) -> dict[str, int]:
    """Of the directories that a tmpfs is mounted on, where the image has them: the tmpfs has the same, as in runc."""
    descriptor = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        places = [mount["destination"] for mount in config["mounts"] if mount["type"] == "tmpfs"]
        found = {place: look(descriptor, place) for place in places}
    finally:
        os.close(descriptor)
    return {place: mode & 0o7777 for place, mode in found.items() if mode is not None}
