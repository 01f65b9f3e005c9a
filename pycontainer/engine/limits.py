"""`linux.resources` of config.json, out of what was asked for."""

from __future__ import annotations

from pycontainer.engine.config.block_io import RATES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pycontainer.engine.config.block_io import BlockIO
    from pycontainer.engine.config.container import ContainerConfig
    from pycontainer.engine.config.memory import Memory
    from pycontainer.engine.config.processor import Processor

Json = dict[str, "Any"]


def resources(config: ContainerConfig) -> Json:
    """As the OCI specification has it: bytes, and microseconds of processor time. Raises UsageError."""
    asked = config.resources
    found: Json = {"devices": [{"allow": config.security.privileged, "access": "rwm"}]}
    parts = {
        "memory": _memory(asked.memory),
        "cpu": _cpu(asked.processor),
        "pids": {"limit": asked.pids_limit} if asked.pids_limit is not None and asked.pids_limit > 0 else {},
        "blockIO": _block_io(asked.block_io),
        "unified": _unified(asked.memory),
    }
    return found | {name: part for name, part in parts.items() if part}


def _memory(memory: Memory) -> Json:
    found: Json = {}
    if memory.limit is not None:
        # Without --memory-swap no swap, where docker grants as much again as --memory: 64m should mean 64m, and a
        # program that takes more should meet the same end on a machine with swap as on one without.
        found = {"limit": memory.limit, "swap": memory.swap if memory.swap is not None else memory.limit}
    if memory.reservation is not None:
        found["reservation"] = memory.reservation
    return found


def _unified(memory: Memory) -> Json:
    """What only cgroup v2 has, and the specification no field for."""
    found: Json = {}
    if memory.high is not None:
        found["memory.high"] = str(memory.high)
    if memory.oom_group:
        found["memory.oom.group"] = "1"
    return found


def _cpu(processor: Processor) -> Json:
    found: Json = {}
    if processor.shares is not None:
        found["shares"] = processor.shares
    if limit := processor.max():
        found["quota"], found["period"] = limit
    if processor.cpuset_cpus:
        found["cpus"] = processor.cpuset_cpus
    if processor.cpuset_mems:
        found["mems"] = processor.cpuset_mems
    return found


def _block_io(block_io: BlockIO) -> Json:
    found: Json = {} if block_io.weight is None else {"weight": block_io.weight}
    for name, field in RATES.items():
        devices = [{"major": major, "minor": minor, "rate": rate} for major, minor, rate in block_io.numbers(name)]
        if devices:
            found[field] = devices
    return found
