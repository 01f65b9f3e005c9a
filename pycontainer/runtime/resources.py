"""`linux.resources` of the OCI runtime specification as values for cgroup v2 files.

See config-linux.md, "Control groups", and Documentation/admin-guide/cgroup-v2.rst. Memory is in bytes, CPU quota and
period in microseconds.
"""

from __future__ import annotations

from pycontainer.errors import HostError, UsageError

Json = dict[str, object]


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
    _memory(_object(resources, "memory"), found)
    _cpu(_object(resources, "cpu"), found)
    pids = _object(resources, "pids").get("limit")
    if isinstance(pids, int):
        found.append(Limit("pids", "pids.max", str(pids) if pids > 0 else "max", "linux.resources.pids.limit"))
    _block_io(_object(resources, "blockIO"), found)
    huge_pages = resources.get("hugepageLimits")
    for entry in huge_pages if isinstance(huge_pages, list) else []:
        file = f"hugetlb.{entry['pageSize']}.max"
        found.append(Limit("hugetlb", file, str(entry["limit"]), "linux.resources.hugepageLimits"))
    for file, value in _object(resources, "unified").items():
        if "/" in file or not isinstance(value, str):
            raise UsageError("read config.json", f"linux.resources.unified.{file}", "must be a file name and a string")
        found.append(Limit(file.partition(".")[0], file, value, f"linux.resources.unified.{file}"))
    for field in ("network", "rdma"):
        if resources.get(field):
            raise HostError("set limit", f"linux.resources.{field}", "cgroup v2 has no such control here", "remove it")
    return found


def _object(parent: Json, name: str) -> Json:
    value = parent.get(name)
    return value if isinstance(value, dict) else {}


def _memory(memory: Json, found: list[Limit]) -> None:
    at = "linux.resources.memory"
    limit, swap, low = memory.get("limit"), memory.get("swap"), memory.get("reservation")
    if isinstance(low, int) and low:
        found.append(Limit("memory", "memory.low", _bytes(low), f"{at}.reservation"))
    if isinstance(limit, int) and limit:
        found.append(Limit("memory", "memory.max", _bytes(limit), f"{at}.limit"))
    if isinstance(swap, int) and swap:
        # The specification counts memory and swap together, as v1 did; v2 counts swap alone.
        if swap > 0 and (not isinstance(limit, int) or limit <= 0):
            raise UsageError("read config.json", f"{at}.swap", "needs a memory limit")
        if isinstance(limit, int) and 0 < swap < limit:
            raise UsageError("read config.json", f"{at}.swap", "is memory plus swap and so no less than the limit")
        value = str(swap - limit) if swap > 0 and isinstance(limit, int) else "max"
        found.append(Limit("memory", "memory.swap.max", value, f"{at}.swap"))
    for field in ("kernel", "kernelTCP"):
        if memory.get(field):
            raise HostError("set limit", f"{at}.{field}", "cgroup v2 does not limit it apart", "use the memory limit")


def _cpu(cpu: Json, found: list[Limit]) -> None:
    at = "linux.resources.cpu"
    shares, quota, period = cpu.get("shares"), cpu.get("quota"), cpu.get("period")
    if isinstance(shares, int) and shares:
        found.append(Limit("cpu", "cpu.weight", str(cpu_weight(shares)), f"{at}.shares"))
    if quota or period:
        quota_text = str(quota) if isinstance(quota, int) and quota > 0 else "max"
        found.append(Limit("cpu", "cpu.max", f"{quota_text} {period or 100000}", f"{at}.quota"))
    if idle := cpu.get("idle"):
        found.append(Limit("cpu", "cpu.idle", str(idle), f"{at}.idle"))
    if burst := cpu.get("burst"):
        found.append(Limit("cpu", "cpu.max.burst", str(burst), f"{at}.burst"))
    for field, file in (("cpus", "cpuset.cpus"), ("mems", "cpuset.mems")):
        if value := cpu.get(field):
            found.append(Limit("cpuset", file, str(value), f"{at}.{field}"))
    for field in ("realtimeRuntime", "realtimePeriod"):
        if cpu.get(field):
            raise HostError("set limit", f"{at}.{field}", "cgroup v2 does not control real-time tasks", "remove it")


def _block_io(block_io: Json, found: list[Limit]) -> None:
    at = "linux.resources.blockIO"
    weight = block_io.get("weight")
    if isinstance(weight, int) and weight:
        found.append(Limit("io", "io.weight", f"default {io_weight(weight)}", f"{at}.weight"))
    for field, key in (
        ("throttleReadBpsDevice", "rbps"),
        ("throttleWriteBpsDevice", "wbps"),
        ("throttleReadIOPSDevice", "riops"),
        ("throttleWriteIOPSDevice", "wiops"),
    ):
        devices = block_io.get(field)
        for device in devices if isinstance(devices, list) else []:
            value = f"{device['major']}:{device['minor']} {key}={device['rate']}"
            found.append(Limit("io", "io.max", value, f"{at}.{field}"))


def _bytes(value: int) -> str:
    return str(value) if value > 0 else "max"
