"""`update`: other limits for a container that runs, with the options of runc(8) `update`.

What is not named stays as it is. All of it is written, or nothing of it stays; config.json is not changed.
"""

from __future__ import annotations

import os

from pycontainer.errors import Conflict, HostError, UsageError
from pycontainer.kernel import cgroup
from pycontainer.runtime import limits, resources, spec
from pycontainer.runtime.fields import Fields, Json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pycontainer.runtime.state import State

# option -> where it stands in `linux.resources`; how it is read
_PLACES = {
    "memory": ("memory", "limit", "size"),
    "memory-reservation": ("memory", "reservation", "size"),
    "memory-swap": ("memory", "swap", "size"),
    "cpu-period": ("cpu", "period", "number"),
    "cpu-quota": ("cpu", "quota", "number"),
    "cpu-burst": ("cpu", "burst", "number"),
    "cpu-share": ("cpu", "shares", "number"),
    "cpu-idle": ("cpu", "idle", "number"),
    "cpu-rt-period": ("cpu", "realtimePeriod", "number"),
    "cpu-rt-runtime": ("cpu", "realtimeRuntime", "number"),
    "cpuset-cpus": ("cpu", "cpus", "text"),
    "cpuset-mems": ("cpu", "mems", "text"),
    "pids-limit": ("pids", "limit", "number"),
    "blkio-weight": ("blockIO", "weight", "number"),
}
_UNITS = "kmgtp"


def choose(options: dict[str, Any]) -> Json:
    """The `linux.resources` that the options ask for: -r alone, where it is there. Raises UsageError."""
    if "resources" in options:
        return Fields(spec.read_resources(options["resources"]), "linux.resources").data
    found: dict[str, dict[str, int | str]] = {}
    for option, text in options.items():
        part, name, kind = _PLACES[option]
        found.setdefault(part, {})[name] = text if kind == "text" else _number(option, text, has_unit=kind == "size")
    return {**found}


def _number(option: str, text: str, *, has_unit: bool) -> int:
    """Bytes may have a unit of 1,024: 64m, 1.5g."""
    digits, factor = text, 1
    if has_unit:
        digits = text.strip().lower().removesuffix("b").removesuffix("i")
        if digits and digits[-1] in _UNITS:
            factor = 1024 ** (_UNITS.index(digits[-1]) + 1)
            digits = digits[:-1]
    try:
        if "." in digits and has_unit and not set(digits) - set("0123456789."):
            return int(float(digits) * factor)
        return int(digits) * factor
    except ValueError:
        cause = "not a size" if has_unit else "not a whole number"
        raise UsageError("pycontainer-runtime update", f"--{option} {text}", cause, "see --help") from None


def update(container: State, asked: Json) -> None:
    """Write these limits into the container's cgroup. Raises Conflict, UsageError, HostError, StepFailed."""
    if container.status() not in ("created", "running"):
        raise Conflict("update container", container.container_id, "container not running")
    path = container.cgroup
    try:
        wanted = resources.asked(_complete(asked, path))
    except (UsageError, HostError) as error:
        raise type(error)("update container", error.path, error.cause, error.hint) from None
    # Where there is no file there is no limit, and so none to take away.
    wanted = [
        limit for limit in wanted if limit.value != limit.unlimited.value or os.path.exists(f"{path}/{limit.file}")
    ]
    limits.change(path, [limits.now(path, limit) for limit in wanted], wanted)


def _complete(asked: Json, path: str) -> Json:
    """With what these limits depend on and do not name: it is what the cgroup has."""
    fields = Fields(asked, "linux.resources")
    memory, cpu = ({**fields.object(name).data} for name in ("memory", "cpu"))
    if memory.get("limit") == -1 and memory.get("swap") is None:
        # As in runc, because the sum of both has no limit then.
        memory["swap"] = -1
    if memory.get("swap") and not memory.get("limit"):
        limit = _read(path, "memory.max", "max")
        memory["limit"] = -1 if limit == "max" else int(limit)
    if cpu.get("quota") or cpu.get("period") is not None:
        quota, period = _read(path, "cpu.max", "max 100000").split()
        if not cpu.get("quota"):
            cpu["quota"] = -1 if quota == "max" else int(quota)
        if cpu.get("period") is None:
            cpu["period"] = int(period)
    return {**asked, "memory": memory, "cpu": cpu}


def _read(path: str, file: str, otherwise: str) -> str:
    try:
        return cgroup.read(f"{path}/{file}").strip()
    except FileNotFoundError:
        return otherwise
