"""`port`: what is published of a container."""

from __future__ import annotations

import sys

from pycontainer.cli.main import for_each, notice
from pycontainer.engine import containers, ports
from pycontainer.engine.config.ports import parse_private
from pycontainer.engine.repair import open_engine
from pycontainer.errors import NotFound
from pycontainer.network.publication import place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pycontainer.engine.settings import Settings


def port(settings: Settings, values: dict[str, Any], operands: list[str]) -> int:
    """Print `80/tcp -> 0.0.0.0:8080`, a line for each, or only where one port leads. Raises NotFound, Conflict."""
    container = containers.find(open_engine(settings, notice), operands[0])
    bindings = ports.bound(container)
    if len(operands) == 1:
        for each in bindings:
            sys.stdout.write(f"{each.port}/{each.protocol} -> {place(each.host_address, each.host_port)}\n")
        return 0

    def show(text: str) -> None:
        number, protocol = parse_private(text)
        places = [
            f"{place(each.host_address, each.host_port)}\n" for each in bindings if each.leads_to(number, protocol)
        ]
        if not places:
            raise NotFound("port", container.name, f"no public port {number}/{protocol} is published")
        sys.stdout.write("".join(places))

    return for_each(operands[1:], show)
