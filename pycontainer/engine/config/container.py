"""What a user asks of one container: the options' words, parsed once into values.

The options are named as the command line names them, without dashes in front and with _ for those within. Whatever
takes another form of them, Docker's JSON say, writes these words.
"""

from __future__ import annotations

from pycontainer import json_text
from pycontainer.engine import restart
from pycontainer.engine.config.log import LogOptions
from pycontainer.engine.config.mounts import Mounts
from pycontainer.engine.config.network import Network
from pycontainer.engine.config.process import Process
from pycontainer.engine.config.resources import Resources
from pycontainer.engine.config.security import Security
from pycontainer.engine.health import HealthOptions
from pycontainer.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

Values = dict[str, "Any"]


class ContainerConfig:
    """One container as it was asked for. Nothing changes it after it was made.

    values         the options as they were given, completed by what is the caller's: caller.py
    name           "" where one is to be chosen
    remove         whether it goes when it has ended
    detach         whether the command that made it did not wait
    """

    __slots__ = ("cidfile", "detach", "health", "image", "labels", "log", "mounts", "name", "network", "process",
                 "remove", "resources", "restart", "security", "values")  # fmt: skip

    def __init__(self, image: str, command: list[str], values: Values, *, stored: bool = False) -> None:
        self.values = values
        self.image = image
        self.name = container_name("--name", values["name"]) if "name" in values else ""
        self.remove = bool(values.get("rm"))
        self.detach = bool(values.get("detach"))
        self.process = Process(command, values)
        self.mounts = Mounts(values)
        self.resources = Resources(values)
        self.network = Network(values)
        self.security = Security(values)
        self.network.check_rights(self.security.capabilities)
        self.restart = restart.parse(values.get("restart") or "")
        if self.remove and self.restart.name != "no":
            raise UsageError("--restart", self.restart.name, "conflicts with --rm", "leave out one of them")
        self.health = HealthOptions(values)
        self.log = LogOptions(values.get("log_driver") or "", values.get("log_opt") or [])
        self.labels = dict(_pair(text) for text in values.get("label") or [])
        self.cidfile: str = values.get("cidfile") or ""
        if not stored:
            # Not of one that exists, because it must still be listed and removed when the machine has lost a processor.
            self.resources.check_machine()
            self.mounts.check_machine()

    @classmethod
    def from_request(cls, request: Values) -> ContainerConfig:
        """What a user asks for now, as caller.py writes it. Raises UsageError."""
        return cls(request["image"], request["command"], request["values"])

    @classmethod
    def from_json(cls, text: str) -> ContainerConfig:
        """What `to_json` wrote, of a container that exists. Raises UsageError."""
        data = json_text.loads(text)
        return cls(data["image"], data["command"], data["values"], stored=True)

    def to_json(self) -> str:
        """All of it, to be read by `from_json` in another process and at another time."""
        return json_text.dumps({"image": self.image, "command": self.process.command, "values": self.values})

    def changed(self, values: Values) -> ContainerConfig:
        """The same with other values of these options. Raises UsageError."""
        return ContainerConfig(self.image, self.process.command, {**self.values, **values}, stored=True)


def container_name(flag: str, text: str) -> str:
    """`text` where it can be a container's name. Raises UsageError."""
    good = text[:1].isalnum() and all(character.isalnum() or character in "_.-" for character in text)
    if not good or not text.isascii() or not 2 <= len(text) <= 128:
        hint = "2 to 128 letters, digits and _.- of which the first is a letter or digit"
        raise UsageError(flag, repr(text), "not a container name", hint)
    return text


def _pair(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    if not key:
        raise UsageError("--label", repr(text), "names no label", "--label KEY=VALUE")
    return key, value
