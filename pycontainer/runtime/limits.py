"""Limits written into a container's cgroup, when it is made and when they are changed."""

from __future__ import annotations

import os

from pycontainer.errors import HostError, PycontainerError
from pycontainer.kernel import cgroup
from pycontainer.kernel.operation import Journal
from pycontainer.runtime.operations import parent
from pycontainer.runtime.resources import Limit, changes


def check(hierarchy: cgroup.Hierarchy, path: str, controllers: list[str], wanted: list[Limit]) -> None:
    """Raise HostError where one of the limits cannot be: before the first is written, so that there are all or none.

    controllers  those of the cgroup's directory, `path`
    """
    for limit in wanted:
        if limit.controller != "cgroup":
            hierarchy.require(limit.controller, limit.field)
    for limit in wanted:
        if limit.controller != "cgroup" and limit.controller not in controllers:
            cause = f"the {limit.controller} controller could not be enabled for {path}"
            hint = "a parent cgroup has processes of its own; move them into a child cgroup first"
            raise HostError("set limit", limit.field, cause, hint)


def check_none(wanted: list[Limit]) -> None:
    """What `check` is where cgroup2 is not mounted. Raises HostError where there is a limit."""
    if wanted:
        hint = "mount cgroup2 (boot with systemd.unified_cgroup_hierarchy=1), or run without limits"
        raise HostError("set limit", wanted[0].field, "cgroup2 is not mounted", hint)


def write(path: str, limit: Limit, journal: Journal) -> None:
    """Write one limit into the cgroup's directory. Raises HostError where the kernel has no file for it, StepFailed."""
    if limit.file == "memory.swap.max" and _has_no_swap(path):
        return
    if limit.instead and not os.path.exists(f"{path}/{limit.file}"):
        if not os.path.exists(f"{path}/{limit.instead.file}"):
            cause = f"this kernel has neither {limit.file} nor {limit.instead.file}"
            hint = "load the I/O scheduler that has it (modprobe bfq), or run without this limit"
            raise HostError("set limit", limit.field, cause, hint)
        limit = limit.instead
    reason = f"{limit.field.removeprefix('linux.resources.')} of the container as a whole"
    journal.perform(parent.WriteFile("cgroup", "set limit", f"{path}/{limit.file}", limit.value, reason))


def _has_no_swap(path: str) -> bool:
    """Whether the limit holds by itself: a kernel without swap accounting, on a machine without swap."""
    if os.path.exists(f"{path}/memory.swap.max"):
        return False
    try:
        with open("/proc/swaps") as file:
            return len(file.readlines()) <= 1
    except FileNotFoundError:
        return True


def now(path: str, limit: Limit) -> Limit:
    """What stands in the place of this limit in a cgroup; where there is no such file, that there is none."""
    instead = limit.instead and now(path, limit.instead)
    value = limit.unlimited.value
    try:
        lines = cgroup.read(f"{path}/{limit.file}").splitlines()
    except FileNotFoundError:
        lines = []
    if limit.file == "io.max":
        device, key = limit.value.partition("=")[0].split()
        rates = next((line.split()[1:] for line in lines if line.split()[0] == device), [])
        value = next((f"{device} {rate}" for rate in rates if rate.startswith(f"{key}=")), value)
    elif lines and lines[0]:
        value = lines[0]
    return Limit(limit.controller, limit.file, value, limit.field, instead)


def change(path: str, before: list[Limit], after: list[Limit]) -> None:
    """Have `after` hold in a cgroup in which `before` does; where that fails, `before` does.

    Raises HostError, StepFailed; what could not be set back is in their notes.
    """
    hierarchy = cgroup.find_hierarchy()
    if hierarchy is None:
        check_none(after)
        return
    wanted = changes(before, after)
    check(hierarchy, path, cgroup.read(f"{path}/cgroup.controllers").split(), wanted)
    journal = Journal()
    written = []
    try:
        for limit in wanted:
            write(path, limit, journal)
            written.append(limit)
    except BaseException as error:
        # All are tried, whatever becomes of one.
        for limit in changes(written, before):
            try:
                write(path, limit, journal)
            except PycontainerError as failure:
                error.add_note(f"also: {failure.message}")
        raise
