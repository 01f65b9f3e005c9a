"""The network that is always there, for tests that need its bridge and no container."""

from __future__ import annotations

from typing import Any

from pycontainer.network.attach import Network, ensure
from pycontainer.network.names import NAME


def ensure_bridge(
    journal: Any, connection: Any, interface: str, *more: Any, **options: Any
) -> tuple[Network, list[str]]:
    """As `ensure`, for that one."""
    (network,), notices = ensure(journal, connection, [NAME], interface, *more, **options)
    return network, notices
