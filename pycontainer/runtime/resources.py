"""`linux.resources` of the OCI runtime specification as values for cgroup v2 files.

See config-linux.md, "Control groups", and Documentation/admin-guide/cgroup-v2.rst. Memory is in bytes, CPU quota and
period in microseconds.
"""

from __future__ import annotations

from pycontainer.errors import HostError, UsageError
from pycontainer.runtime.spec import Fields

Json = dict[str, object]

REFUSED = ("network", "rdma")


class Limit:
    """One write: `value` into `file`, which belongs to `controller`, because config.json says so at `field`."""

    __slots__ = ("controller", "field", "file", "value")

    def __init__(self, controller: str, file: str, value: str, field: str) -> None:
        self.controller = controller
        self.file = file
        self.value = value
        self.field = field

    def __repr__(self) -> str:
        return f"{self.file}={self.value}"


def cpu_weight(shares: int) -> int:
    """cpu.weight (1 to 10,000) for `cpu.shares` (2 to 262,144), by the formula that runc and crun share."""
    shares = min(max(shares, 2), 262144)
    return 1 + (shares - 2) * 9999 // 262142


def io_weight(weight: int) -> int:
    """io.weight (1 to 10,000) for `blkio.weight` (10 to 1,000)."""
    return 1 + (weight - 10) * 9999 // 990


def limits(resources: Json) -> list[Limit]:
    """What to write, in order. Raises UsageError for what makes no sense, HostError for what v2 does not have."""
    found: list[Limit] = []
    fields = Fields(resources, "linux.resources")
    _memory(fields.object("memory"), found)
    _cpu(fields.object("cpu"), found)
    pids = fields.object("pids").optional_number("limit")
    if pids is not None:
        found.append(Limit("pids", "pids.max", str(pids) if pids > 0 else "max", "linux.resources.pids.limit"))
    _block_io(fields.object("blockIO"), found)
    for entry in fields.objects("hugepageLimits"):
        size, limit = entry.text("pageSize"), entry.number("limit")
        if not size.isalnum():
            raise UsageError("read config.json", f"{entry.path}.pageSize", "must be a size such as 2MB")
        found.append(Limit("hugetlb", f"hugetlb.{size}.max", _bytes(limit), "linux.resources.hugepageLimits"))
    for file, value in fields.strings("unified").items():
        if "/" in file or "." not in file:
            raise UsageError("read config.json", f"linux.resources.unified.{file}", "must be a cgroup file's name")
        found.append(Limit(file.partition(".")[0], file, value, f"linux.resources.unified.{file}"))
    for field in REFUSED:
        if resources.get(field):
            raise HostError("set limit", f"linux.resources.{field}", "cgroup v2 has no such control here", "remove it")
    return found


def _memory(memory: Fields, found: list[Limit]) -> None:
    at = "linux.resources.memory"
    limit, swap, low = (memory.optional_number(name) or 0 for name in ("limit", "swap", "reservation"))
    if low:
        found.append(Limit("memory", "memory.low", _bytes(low), f"{at}.reservation"))
    if limit:
        found.append(Limit("memory", "memory.max", _bytes(limit), f"{at}.limit"))
    if swap:
        # The specification counts memory and swap together, as v1 did; v2 counts swap alone.
        if swap > 0 and limit <= 0:
            raise UsageError("read config.json", f"{at}.swap", "needs a memory limit")
        if 0 < swap < limit:
            raise UsageError("read config.json", f"{at}.swap", "is memory plus swap and so no less than the limit")
        value = str(swap - limit) if swap > 0 else "max"
        found.append(Limit("memory", "memory.swap.max", value, f"{at}.swap"))
    for field in ("kernel", "kernelTCP"):
        if memory.optional_number(field):
            raise HostError("set limit", f"{at}.{field}", "cgroup v2 does not limit it apart", "use the memory limit")
    if memory.flag("disableOOMKiller"):
        raise HostError("set limit", f"{at}.disableOOMKiller", "cgroup v2 has no such switch", "remove it")


def _cpu(cpu: Fields, found: list[Limit]) -> None:
    at = "linux.resources.cpu"
    shares, quota, period = (cpu.optional_number(name) or 0 for name in ("shares", "quota", "period"))
    if shares:
        found.append(Limit("cpu", "cpu.weight", str(cpu_weight(shares)), f"{at}.shares"))
    if quota or period:
        quota_text = str(quota) if quota > 0 else "max"
        found.append(Limit("cpu", "cpu.max", f"{quota_text} {period or 100000}", f"{at}.quota"))
    if idle := cpu.optional_number("idle"):
        found.append(Limit("cpu", "cpu.idle", str(idle), f"{at}.idle"))
    if burst := cpu.optional_number("burst"):
        found.append(Limit("cpu", "cpu.max.burst", str(burst), f"{at}.burst"))
    for field, file in (("cpus", "cpuset.cpus"), ("mems", "cpuset.mems")):
        if value := cpu.text(field):
            found.append(Limit("cpuset", file, value, f"{at}.{field}"))
    for field in ("realtimeRuntime", "realtimePeriod"):
        if cpu.optional_number(field):
            raise HostError("set limit", f"{at}.{field}", "cgroup v2 does not control real-time tasks", "remove it")


def _block_io(block_io: Fields, found: list[Limit]) -> None:
    at = "linux.resources.blockIO"
    weight = block_io.optional_number("weight")
    if weight:
        if not 10 <= weight <= 1000:
            raise UsageError("read config.json", f"{at}.weight", f"must be 10 to 1000, not {weight}")
        found.append(Limit("io", "io.weight", f"default {io_weight(weight)}", f"{at}.weight"))
    for field, key in (
        ("throttleReadBpsDevice", "rbps"),
        ("throttleWriteBpsDevice", "wbps"),
        ("throttleReadIOPSDevice", "riops"),
        ("throttleWriteIOPSDevice", "wiops"),
    ):
        for device in block_io.objects(field):
            value = f"{device.number('major')}:{device.number('minor')} {key}={device.number('rate')}"
            found.append(Limit("io", "io.max", value, f"{at}.{field}"))
    for field in ("leafWeight", "weightDevice"):
        if block_io.data.get(field):
            raise HostError("set limit", f"{at}.{field}", "not supported", "use weight or the throttle fields")


def _bytes(value: int) -> str:
    return str(value) if value > 0 else "max"
