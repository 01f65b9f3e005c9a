"""What a user asks to have run, without what is the caller's own: its environment, its files, its directory.

The launcher, which is somewhere else, makes a ContainerConfig of it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Read here, or of no concern to the container.
_OURS = ("env_file", "explain", "explain_to", "detach_keys")


def container(image: str, command: list[str], values: dict[str, Any]) -> dict[str, Any]:
    """What ContainerConfig.from_request reads. Raises UsageError."""
    done = {name: value for name, value in values.items() if name not in _OURS}
    if values.get("env_file") or values.get("env"):
        from pycontainer.engine.environment import variables

        done["env"] = variables(values.get("env_file") or [], values.get("env") or [])
    if values.get("volume") or values.get("mount"):
        from pycontainer.engine import mounts

        for name, complete in (("volume", mounts.completed), ("mount", mounts.completed_mount)):
            if values.get(name):
                done[name] = [complete(text) for text in values[name]]
    return {"image": image, "command": command, "values": done}
