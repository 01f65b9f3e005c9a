"""What a user asks of one container: the command line's words, parsed once into values."""

from __future__ import annotations

import os

from pycontainer import json_text
from pycontainer.engine import mounts, ports, restart
from pycontainer.engine.health import HealthOptions
from pycontainer.errors import UsageError
from pycontainer.kernel import capability, rlimit, signals
from pycontainer.runtime.defaults import CAPABILITIES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

Values = dict[str, "Any"]


class ContainerConfig:
    """One container as it was asked for. Nothing changes it after it was made.

    values         the options as they were given, completed by what is the caller's: caller.py
    memory, swap   bytes; swap counts both together, -1 for no limit, None where it was not said
    cpus           processors' worth of time, 1.5 for one and a half
    ulimits        (RLIMIT_* name, soft, hard), -1 for no limit
    stop_timeout   seconds, -1 for ever, None where it was not said
    log            what keeps the output: see LogOptions
    ports          what -p, -P and --expose say
    mounts         what -v and --mount say; --tmpfs has a list of its own, because Docker shows it elsewhere
    volumes_from   (container, whether to read only)
    """

    def __init__(self, image: str, command: list[str], values: Values, *, stored: bool = False) -> None:
        self.values = values
        self.image = image
        self.command = command
        self.name = container_name("--name", values["name"]) if "name" in values else ""
        self.remove = bool(values.get("rm"))
        self.interactive = bool(values.get("interactive"))
        self.tty = bool(values.get("tty"))
        self.detach = bool(values.get("detach"))
        self.hostname = _hostname(values.get("hostname") or "")
        self.environment = [_variable(text) for text in values.get("env") or []]
        self.workdir = values.get("workdir") or ""
        if self.workdir and not self.workdir.startswith("/"):
            raise UsageError("--workdir", self.workdir, "must be an absolute path")
        self.user = values.get("user")
        self.entrypoint: str | None = values.get("entrypoint")
        self.read_only = bool(values.get("read_only"))
        self.mounts = [mounts.parse_volume(text) for text in values.get("volume") or []]
        self.mounts += [mounts.parse_mount(text) for text in values.get("mount") or []]
        self.tmpfs = [mounts.parse_tmpfs(text) for text in values.get("tmpfs") or []]
        mounts.check(self.mounts + self.tmpfs)
        self.volumes_from = [mounts.parse_volumes_from(text) for text in values.get("volumes_from") or []]
        # 0 is no limit, as docker has it.
        self.memory = _optional(parse_size, "--memory", values.get("memory")) or None
        self.swap = _optional(parse_size, "--memory-swap", values.get("memory_swap")) or None
        self.cpus = _optional(_cpus, "--cpus", values.get("cpus")) or None
        self.cpuset_cpus = values.get("cpuset_cpus") or ""
        self.pids_limit = _optional(_integer, "--pids-limit", values.get("pids_limit"))
        # By name, because config.json may hold each only once; the last one counts.
        ulimits = {limit[0]: limit for limit in map(_ulimit, values.get("ulimit") or [])}
        self.ulimits = list(ulimits.values())
        self.privileged = bool(values.get("privileged"))
        self.user_namespace = _user_namespace(values.get("userns")) and not self.privileged
        self.capabilities = _capabilities(
            values.get("cap_add") or [],
            values.get("cap_drop") or [],
            privileged=self.privileged,
            in_user_namespace=self.user_namespace,
        )
        self.no_new_privileges = _security(values.get("security_opt") or [])
        self.network = _network(values.get("network"))
        self.ports = ports.PortOptions(values)
        self.dns = list(values.get("dns") or [])
        self.dns_search = list(values.get("dns_search") or [])
        self.dns_options = list(values.get("dns_option") or [])
        self.add_host = list(values.get("add_host") or [])
        self.init = bool(values.get("init"))
        self.restart = restart.parse(values.get("restart") or "")
        if self.remove and self.restart.name != "no":
            raise UsageError("--restart", self.restart.name, "conflicts with --rm", "leave out one of them")
        self.health = HealthOptions(values)
        self.log = LogOptions(values.get("log_driver") or "", values.get("log_opt") or [])
        self.stop_signal = _signal(values.get("stop_signal"))
        self.stop_timeout = _optional(_integer, "--stop-timeout", values.get("stop_timeout"))
        self.labels = dict(_pair(text) for text in values.get("label") or [])
        self.cidfile = values.get("cidfile") or ""
        self._check_memory()
        if not stored:
            # Not of one that exists, because it must still be listed and removed when the machine has lost a processor.
            self._check_processors()
            self._check_descriptors()
            for tmpfs in self.tmpfs:
                mounts.check_tmpfs(tmpfs)

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
        return json_text.dumps({"image": self.image, "command": self.command, "values": self.values})

    def changed(self, values: Values) -> ContainerConfig:
        """The same with other values of these options. Raises UsageError."""
        return ContainerConfig(self.image, self.command, {**self.values, **values}, stored=True)

    def _check_processors(self) -> None:
        available = os.cpu_count() or 1
        if self.cpus is not None and self.cpus > available:
            hint = f"anything from 0.01 to {available}, such as 0.5; 0 is no limit"
            cause = f"this machine has only {available} processor{'s' if available > 1 else ''}"
            raise UsageError("--cpus", repr(self.values["cpus"]), cause, hint)
        if self.cpuset_cpus:
            online = _online()
            missing = _processors("--cpuset-cpus", self.cpuset_cpus) - online
            if missing:
                cause = f"this machine has no processor {_ranges(missing)}"
                raise UsageError("--cpuset-cpus", repr(self.cpuset_cpus), cause, f"there are {_ranges(online)}")

    def _check_descriptors(self) -> None:
        for name, soft, _ in self.ulimits:
            if name == "RLIMIT_NOFILE" and 0 <= soft < 3:
                cause = "standard input, output and error are three files already"
                hint = "such as nofile=1024; a program with shared libraries needs 4 at least"
                raise UsageError("--ulimit", f"nofile={soft}", cause, hint)

    def _check_memory(self) -> None:
        if self.memory is not None and self.memory < 0:
            raise UsageError("--memory", "-1", "not a size", "leave it out, or write 0, for no limit")
        if self.memory is not None and self.memory < 6 << 20:
            hint = "6m is the least in which a program can start"
            raise UsageError("--memory", str(self.memory), "too little memory", hint)
        if self.swap is not None and self.swap != -1:
            if self.memory is None:
                raise UsageError("--memory-swap", str(self.swap), "needs --memory as well", "-m 64m --memory-swap 128m")
            if self.swap < self.memory:
                hint = "it counts memory and swap together; the same value as --memory means no swap"
                raise UsageError("--memory-swap", str(self.swap), "is less than --memory", hint)


class LogOptions:
    """How the output is kept. driver: json-file or none; max_size: bytes of one file; max_file: how many files."""

    __slots__ = ("driver", "max_file", "max_size")

    def __init__(self, driver: str, options: list[str]) -> None:
        if driver not in ("", "json-file", "local", "none"):
            raise UsageError("--log-driver", repr(driver), "no such driver", "json-file or none")
        self.driver = "none" if driver == "none" else "json-file"
        # Bounded by default, because a log that nobody reads must not fill the disk.
        self.max_size, self.max_file = 16 << 20, 4
        for option in options:
            name, _, value = option.partition("=")
            if name == "max-size":
                self.max_size = parse_size("--log-opt max-size", value)
                if self.max_size < 4096:
                    raise UsageError("--log-opt", repr(option), "too small", "max-size=10m; 4k at least")
            elif name == "max-file":
                self.max_file = _integer("--log-opt max-file", value)
                if not 1 <= self.max_file <= 1000:
                    raise UsageError("--log-opt", repr(option), "not a number of files", "max-file=3, 1 to 1000")
            else:
                raise UsageError("--log-opt", repr(option), "not supported", "max-size=SIZE and max-file=NUMBER")


def _optional(parse: Any, flag: str, text: str | None) -> Any:
    return None if text is None else parse(flag, text)


def parse_size(flag: str, text: str) -> int:
    """Bytes from "64m", "1.5g", "512k", "1048576" or "-1", as docker reads them: units of 1,024. Raises UsageError."""
    number = text.strip().lower().removesuffix("b").removesuffix("i")
    factor = 1
    if number[-1:] in ("k", "m", "g", "t", "p"):
        factor = 1024 ** ("kmgtp".index(number[-1]) + 1)
        number = number[:-1]
    try:
        if number == "-1" and factor == 1:
            return -1
        if not number[:1].isdigit() or set(number) - set("0123456789."):
            raise ValueError
        return int(number) * factor if number.isdigit() else int(float(number) * factor)
    except (ValueError, OverflowError):
        raise UsageError(flag, repr(text), "not a size", "write a number with k, m or g, such as 64m or 1.5g") from None


def _cpus(flag: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    # At once larger than any machine, and not infinite.
    if not (value == 0 or 0.01 <= value < 1 << 20):
        raise UsageError(flag, repr(text), "not a number of processors", "0.01 at least, such as 0.5; 0 is no limit")
    return value


def _processors(flag: str, text: str) -> set[int]:
    """The numbers in "0-2,4": cpuset(7). Raises UsageError."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        last = last if dash else first
        good = all(number.isascii() and number.isdigit() and len(number) < 6 for number in (first, last))
        if not good or int(first) > int(last):
            raise UsageError(flag, repr(text), "not a list of processors", "numbers and ranges, such as 0-2,4")
        found.update(range(int(first), int(last) + 1))
    return found


def _online() -> set[int]:
    """The numbers of the processors that this machine has: sysfs-devices-system-cpu. Raises OSError."""
    with open("/sys/devices/system/cpu/online") as file:
        return _processors("online", file.read().strip())


def _ranges(numbers: set[int]) -> str:
    """The numbers as cpuset(7) lists them: "0-2,4"."""
    ends = sorted(number for number in numbers if number + 1 not in numbers)
    begins = sorted(number for number in numbers if number - 1 not in numbers)
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(begins, ends, strict=True))


def _integer(flag: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UsageError(flag, repr(text), "not a whole number", f"such as {flag} 100, or -1 for no limit") from None


def container_name(flag: str, text: str) -> str:
    """`text` where it can be a container's name. Raises UsageError."""
    good = text[:1].isalnum() and all(character.isalnum() or character in "_.-" for character in text)
    if not good or not text.isascii() or not 2 <= len(text) <= 128:
        hint = "2 to 128 letters, digits and _.- of which the first is a letter or digit"
        raise UsageError(flag, repr(text), "not a container name", hint)
    return text


def _hostname(text: str) -> str:
    if len(text) > 64 or any(character.isspace() or character == "/" for character in text):
        raise UsageError("--hostname", repr(text), "not a host name", "at most 64 characters, no spaces")
    return text


def _variable(text: str) -> tuple[str, str | None]:
    key, equals, value = text.partition("=")
    return key, value if equals else None


def _ulimit(text: str) -> tuple[str, int, int]:
    name, _, limits = text.partition("=")
    soft, _, hard = limits.partition(":")
    hint = "--ulimit nofile=1024:2048, soft limit before the hard one, -1 for no limit"
    try:
        values = int(soft), int(hard or soft)
        if not all(-1 <= value < 1 << 63 for value in values):
            raise ValueError
    except ValueError:
        raise UsageError("--ulimit", repr(text), "not NAME=SOFT[:HARD]", hint) from None
    if f"RLIMIT_{name.upper()}" not in rlimit.NUMBERS:
        raise UsageError("--ulimit", repr(name), "no such limit", "nofile, nproc, core, fsize, memlock, stack …")
    if values[1] != -1 and (values[0] > values[1] or values[0] == -1):
        raise UsageError("--ulimit", repr(text), "the soft limit is above the hard one", hint)
    return f"RLIMIT_{name.upper()}", *values


def _capabilities(add: list[str], drop: list[str], *, privileged: bool, in_user_namespace: bool) -> list[str]:
    """The names to keep: docker's defaults less `drop` plus `add`; ALL stands for every one."""
    added, dropped = (
        [_capability("--cap-add", name) for name in add],
        [_capability("--cap-drop", name) for name in drop],
    )
    if privileged or "CAP_ALL" in added:
        names = capability.available(in_user_namespace)
    else:
        names = [] if "CAP_ALL" in dropped else list(CAPABILITIES)
    names = [name for name in names if name not in dropped]
    return names + [name for name in added if name not in names and name != "CAP_ALL"]


def _capability(flag: str, text: str) -> str:
    name = text.upper()
    name = name if name.startswith("CAP_") else f"CAP_{name}"
    if name not in capability.NUMBERS and name != "CAP_ALL":
        raise UsageError(
            flag, repr(text), "no such capability", "capabilities(7) lists them: NET_ADMIN, SYS_TIME, ALL …"
        )
    return name


def _security(options: list[str]) -> bool:
    """Whether no_new_privs was asked for."""
    no_new_privileges = False
    for option in options:
        name, _, value = option.replace(":", "=", 1).partition("=")
        if name != "no-new-privileges" or value not in ("", "true", "false"):
            raise UsageError("--security-opt", repr(option), "not supported", "--security-opt no-new-privileges")
        no_new_privileges = value != "false"
    return no_new_privileges


def _user_namespace(text: str | None) -> bool:
    if text not in (None, "", "host", "private", "auto"):
        raise UsageError(
            "--userns", repr(text), "must be host or private", "without it each container has ids of its own"
        )
    return text != "host"


def _network(text: str | None) -> str:
    name = {None: "bridge", "": "bridge", "default": "bridge"}.get(text, text or "")
    if name not in ("bridge", "none", "host"):
        raise UsageError("--network", repr(text), "no such network", "bridge, none or host")
    return name


def _signal(text: str | None) -> int | None:
    if text is None:
        return None
    number = signals.parse(text)
    if number is None:
        raise UsageError("--stop-signal", repr(text), "no such signal", "a number or a name such as SIGTERM")
    return number


def _pair(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    if not key:
        raise UsageError("--label", repr(text), "names no label", "--label KEY=VALUE")
    return key, value
