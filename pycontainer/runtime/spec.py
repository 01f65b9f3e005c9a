"""config.json of an OCI bundle, parsed once into values that the rest of the runtime trusts.

Follows the OCI runtime specification 1.1 (config.md, config-linux.md). What this runtime does not do is refused here
by name, never ignored.
"""

from __future__ import annotations

import os

from pycontainer import json_text
from pycontainer.errors import HostError, UsageError
from pycontainer.kernel.capability import NUMBERS
from pycontainer.kernel.namespace import TYPES, IdMap
from pycontainer.kernel.rlimit import NUMBERS as NUMBERS_OF_LIMITS
from pycontainer.runtime import sysctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

Json = dict[str, object]

OLDEST_VERSION = "1.0.0"
# What is refused by name where it is set, of `process` and of `linux`.
REFUSED_OF_PROCESS = ("apparmorProfile", "selinuxLabel")
REFUSED_OF_LINUX = ("seccomp", "mountLabel", "intelRdt", "personality", "timeOffsets")
# The hooks that are run; all others are refused.
HOOKS: tuple[str, ...] = ()


class Fields:
    """One JSON object of config.json, read with its types checked; errors name the field's full path."""

    __slots__ = ("data", "path")

    def __init__(self, data: object, path: str) -> None:
        if data is None:
            data = {}
        if not isinstance(data, dict):
            raise UsageError("read config.json", path, "must be an object")
        self.data: Json = data
        self.path = path

    def _at(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    def _wrong(self, name: str, expected: str) -> UsageError:
        return UsageError("read config.json", self._at(name), f"must be {expected}")

    def _get(self, name: str, default: object) -> object:
        # null is what other engines write for a field that they leave out.
        value = self.data.get(name)
        return default if value is None else value

    def text(self, name: str, default: str = "") -> str:
        value = self._get(name, default)
        if not isinstance(value, str) or "\0" in value:
            raise self._wrong(name, "a string")
        return value

    def number(self, name: str, default: int = 0) -> int:
        value = self._get(name, default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._wrong(name, "a whole number")
        return value

    def optional_number(self, name: str) -> int | None:
        return self.number(name) if self.data.get(name) is not None else None

    def flag(self, name: str) -> bool:
        value = self._get(name, False)
        if not isinstance(value, bool):
            raise self._wrong(name, "true or false")
        return value

    def texts(self, name: str) -> list[str]:
        value = self.data.get(name) or []
        if not isinstance(value, list) or not all(isinstance(item, str) and "\0" not in item for item in value):
            raise self._wrong(name, "an array of strings")
        return value

    def numbers(self, name: str) -> list[int]:
        value = self.data.get(name) or []
        if not isinstance(value, list) or not all(type(item) is int for item in value):
            raise self._wrong(name, "an array of whole numbers")
        return value

    def id(self, name: str) -> int:
        return self._id(name, self.number(name))

    def ids(self, name: str) -> list[int]:
        return [self._id(name, number) for number in self.numbers(name)]

    def _id(self, name: str, number: int) -> int:
        # because -1 means "leave it as it is" to setresuid(2), and the process is root at that moment
        if not 0 <= number < (1 << 32) - 1:
            raise self._wrong(name, f"a user or group id, not {number}")
        return number

    def object(self, name: str) -> Fields:
        return Fields(self.data.get(name), self._at(name))

    def objects(self, name: str) -> list[Fields]:
        value = self.data.get(name) or []
        if not isinstance(value, list):
            raise self._wrong(name, "an array")
        return [Fields(item, f"{self._at(name)}[{position}]") for position, item in enumerate(value)]

    def strings(self, name: str) -> dict[str, str]:
        fields = self.object(name)
        return {key: fields.text(key) for key in fields.data}

    def id_maps(self, name: str) -> list[IdMap]:
        return [
            IdMap(extent.number("containerID"), extent.number("hostID"), extent.number("size"))
            for extent in self.objects(name)
        ]


class Process:
    """`process`: what is executed, and as whom."""

    def __init__(self, fields: Fields) -> None:
        self.args = fields.texts("args")
        self.env = fields.texts("env")
        self.cwd = fields.text("cwd", "/")
        self.terminal = fields.flag("terminal")
        size = fields.object("consoleSize")
        self.console_size = (size.number("height"), size.number("width"))
        user = fields.object("user")
        self.uid = user.id("uid")
        self.gid = user.id("gid")
        self.umask = user.optional_number("umask")
        self.additional_gids = user.ids("additionalGids")
        self.no_new_privileges = fields.flag("noNewPrivileges")
        self.oom_score_adj = fields.optional_number("oomScoreAdj")
        sets = fields.object("capabilities")
        # None at all where the object is missing, as in runc.
        self.capabilities = {name: _capabilities(sets, name) for name in CAPABILITY_SETS}
        self.rlimits = [
            (_rlimit(entry.text("type")), _rlimit_value(entry, "soft"), _rlimit_value(entry, "hard"))
            for entry in fields.objects("rlimits")
        ]
        if not self.args or not self.args[0]:
            raise UsageError("read config.json", "process.args", "names no program")
        if not self.cwd.startswith("/"):
            raise UsageError("read config.json", "process.cwd", f"must be an absolute path, not {self.cwd!r}")
        for name in REFUSED_OF_PROCESS:
            if fields.data.get(name):
                raise HostError("read config.json", f"process.{name}", "not supported", f"remove process.{name}")

    def with_arguments(self, args: list[str]) -> Process:
        """Another program as the same user in the same directory, without a terminal."""
        other = object.__new__(Process)
        other.__dict__.update(self.__dict__)
        other.args, other.terminal = args, False
        return other


CAPABILITY_SETS = ("bounding", "effective", "permitted", "inheritable", "ambient")


def _capabilities(sets: Fields, name: str) -> list[str]:
    values = sets.texts(name)
    for value in values:
        if value not in NUMBERS:
            raise UsageError("read config.json", f"process.capabilities.{name}", f"unknown capability {value!r}")
    return values


def _rlimit(name: str) -> int:
    if name not in NUMBERS_OF_LIMITS:
        raise UsageError("read config.json", "process.rlimits", f"unknown resource {name!r}")
    return NUMBERS_OF_LIMITS[name]


def _rlimit_value(entry: Fields, name: str) -> int:
    value = entry.number(name)
    if value == (1 << 64) - 1:
        return -1  # RLIM_INFINITY, as an unsigned number
    if not -1 <= value < 1 << 63:
        raise UsageError("read config.json", f"{entry.path}.{name}", f"not a limit: {value}")
    return value


class Mount:
    """One entry of `mounts`, its options not yet decoded (see mounts.py)."""

    def __init__(self, fields: Fields, bundle: str) -> None:
        self.destination = fields.text("destination")
        self.type = fields.text("type")
        self.source = fields.text("source")
        self.options = fields.texts("options")
        self.uid_mappings = fields.id_maps("uidMappings")
        self.gid_mappings = fields.id_maps("gidMappings")
        self.is_bind = self.type == "bind" or "bind" in self.options or "rbind" in self.options
        if not self.destination.startswith("/"):
            # Relative destinations are deprecated in the specification, and read as below the root.
            self.destination = "/" + self.destination
        if self.is_bind:
            self.source = os.path.join(bundle, self.source)


class Device:
    """One entry of `linux.devices`."""

    def __init__(self, fields: Fields) -> None:
        self.path = fields.text("path")
        self.type = fields.text("type")
        self.major = fields.number("major")
        self.minor = fields.number("minor")
        self.mode = fields.number("fileMode", 0o666)
        self.uid = fields.number("uid")
        self.gid = fields.number("gid")
        if self.type not in ("c", "u", "b", "p"):
            raise UsageError("read config.json", f"{fields.path}.type", "must be c, u, b or p")
        if not self.path.startswith("/dev/") or ".." in self.path.split("/"):
            raise UsageError("read config.json", f"{fields.path}.path", "must lie under /dev")

    @classmethod
    def character(cls, path: str, major: int, minor: int) -> Device:
        """A character device that everybody may read and write."""
        return cls(Fields({"path": path, "type": "c", "major": major, "minor": minor}, "linux.devices"))


class Spec:
    """A whole config.json.

    namespaces   the CLONE_NEW* flag of each listed type -> the path to join, "" to make a new one
    sysctl       the path of each kernel parameter -> its value
    """

    def __init__(self, config: object, bundle: str) -> None:
        fields = Fields(config, "")
        self.bundle = bundle
        version = fields.text("ociVersion")
        if not version.startswith("1."):
            raise UsageError("read config.json", "ociVersion", f"1.x is understood, not {version!r}")
        self.version = version
        self.process = Process(fields.object("process"))
        root = fields.object("root")
        self.root = os.path.join(bundle, root.text("path", "rootfs"))
        self.root_readonly = root.flag("readonly")
        self.hostname = fields.text("hostname")
        self.domainname = fields.text("domainname")
        self.mounts = [Mount(mount, bundle) for mount in fields.objects("mounts")]
        self.annotations = fields.strings("annotations")

        linux = fields.object("linux")
        self.namespaces: dict[int, str] = {}
        for namespace in linux.objects("namespaces"):
            kind = namespace.text("type")
            if kind not in TYPES:
                raise UsageError("read config.json", f"{namespace.path}.type", f"unknown namespace {kind!r}")
            if TYPES[kind] in self.namespaces:
                raise UsageError("read config.json", f"{namespace.path}.type", f"{kind} stands twice")
            self.namespaces[TYPES[kind]] = namespace.text("path")
        self.uid_mappings = linux.id_maps("uidMappings")
        self.gid_mappings = linux.id_maps("gidMappings")
        self.devices = [Device(device) for device in linux.objects("devices")]
        self.cgroups_path = linux.text("cgroupsPath")
        resources = linux.object("resources")
        resources.objects("devices")
        self.resources: Json = resources.data
        self.sysctl = sysctl.parse(linux.strings("sysctl"), self.namespaces)
        self.masked_paths = linux.texts("maskedPaths")
        self.readonly_paths = linux.texts("readonlyPaths")
        self.rootfs_propagation = linux.text("rootfsPropagation")
        _check(fields, linux, self.namespaces, self.uid_mappings, self.gid_mappings)

    def host_uid(self, uid: int) -> int:
        """What a user id of the container's is on the host; -1 for one that is not mapped."""
        for extent in self.uid_mappings:
            if extent.inside <= uid < extent.inside + extent.size:
                return extent.outside + uid - extent.inside
        return uid if not self.uid_mappings else -1


def _check(fields: Fields, linux: Fields, namespaces: dict[int, str], uids: list[IdMap], gids: list[IdMap]) -> None:
    if TYPES["mount"] not in namespaces:
        raise UsageError("read config.json", "linux.namespaces", "a mount namespace is needed")
    if namespaces.get(TYPES["mount"]) or namespaces.get(TYPES["user"]) or namespaces.get(TYPES["time"]):
        raise HostError("read config.json", "linux.namespaces", "cannot join a mount, user or time namespace by path")
    if (TYPES["user"] in namespaces) != bool(uids and gids):
        raise UsageError("read config.json", "linux.uidMappings", "id maps and a user namespace go together")
    for name, kind in (("hostname", "uts"), ("domainname", "uts")):
        if fields.data.get(name) and TYPES[kind] not in namespaces:
            raise UsageError("read config.json", name, "needs a UTS namespace")
    hooks = fields.object("hooks").data
    if any(value for name, value in hooks.items() if name not in HOOKS):
        raise HostError("read config.json", "hooks", "hooks are not supported", "remove the hooks")
    for name in REFUSED_OF_LINUX:
        if linux.data.get(name):
            raise HostError("read config.json", f"linux.{name}", "not supported", f"remove linux.{name}")


def load(bundle: str) -> Spec:
    """The Spec of the bundle directory. Raises UsageError that names the file and what is wrong with it."""
    bundle = os.path.abspath(bundle)
    return Spec(read(bundle), bundle)


def read(bundle: str) -> Any:
    """The value of a bundle's config.json, unchecked. Raises UsageError."""
    hint = "a bundle is a directory with config.json and the root file system; `pycontainer-runtime spec` writes one"
    return _read_json("read config.json", os.path.join(bundle, "config.json"), hint)


def read_process(path: str) -> Any:
    """The value of a file that holds what `process` is in a config.json, unchecked. Raises UsageError."""
    return _read_json("read --process", path, "")


def _read_json(step: str, path: str, hint: str) -> Any:
    try:
        with open(path, encoding="utf-8") as file:
            return json_text.loads(file.read())
    except OSError as error:
        raise UsageError(step, path, (error.strerror or "").lower(), hint) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(step, path, f"not JSON: {error}") from error
