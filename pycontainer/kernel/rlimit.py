"""Resource limits of a process: getrlimit(2), prlimit(2). A limit of -1 is RLIM_INFINITY."""

from __future__ import annotations

import resource

from pycontainer.kernel import record

NUMBERS: dict[str, int] = {name: number for name, number in vars(resource).items() if name.startswith("RLIMIT_")}


def name(number: int) -> str:
    """RLIMIT_NOFILE and so on."""
    return next((name for name, value in NUMBERS.items() if value == number), str(number))


def set_own(number: int, soft: int, hard: int) -> None:
    """Raises OSError, EINVAL where the soft limit is above the hard one."""
    try:
        record.make(
            "prlimit64",
            lambda: ["0", name(number), f"{{rlim_cur={soft}, rlim_max={hard}}}", "NULL"],
            resource.setrlimit,
            number,
            (soft, hard),
        )
    except ValueError as error:
        raise OSError(1 if "not allowed" in str(error) else 22, str(error)) from None


def is_raise(number: int, hard: int) -> bool:
    """Whether `hard` is above this process's hard limit, which its children inherit."""
    current = resource.getrlimit(number)[1]
    return current != -1 and (hard == -1 or hard > current)


def raise_hard(pid: int, number: int, hard: int) -> None:
    """Raise another process's hard limit and leave its soft one. Raises OSError."""
    soft = resource.prlimit(pid, number)[0]
    record.make(
        "prlimit64",
        lambda: [str(pid), name(number), f"{{rlim_cur={soft}, rlim_max={hard}}}", "NULL"],
        resource.prlimit,
        pid,
        number,
        (soft, hard),
    )
