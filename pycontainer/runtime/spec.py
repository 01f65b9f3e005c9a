"""config.json of an OCI bundle, parsed once into values that the rest of the runtime trusts.

Follows the OCI runtime specification 1.2 (config.md, config-linux.md). What this runtime does not do is refused here
by name, never ignored; what the specification does not define is ignored, as it says (config.md, "Extensibility").
"""

from __future__ import annotations

import os

from pycontainer import json_text
from pycontainer.errors import HostError, UsageError
from pycontainer.kernel.capability import NUMBERS
from pycontainer.kernel.id_map import IdMap
from pycontainer.kernel.mount import MS_RDONLY
from pycontainer.kernel.namespace import TYPES
from pycontainer.kernel.rlimit import NUMBERS as NUMBERS_OF_LIMITS
from pycontainer.runtime import resources, scheduling, sysctl
from pycontainer.runtime.fields import LONGEST_ARGUMENT, LONGEST_NAME, LONGEST_PATH, Fields, Json, asks, shown
from pycontainer.runtime.mounts import PROPAGATION, Options, plain_option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OLDEST_VERSION = "1.0.0"
# What is refused by name where it asks for something, of `process`, of `linux`, of the whole; what to do instead.
REFUSED_OF_PROCESS = {
    "apparmorProfile": "",
    "selinuxLabel": "",
    "commandLine": "it is for Windows; say it in process.args",
}
REFUSED_OF_LINUX = {
    "seccomp": "",
    "mountLabel": "",
    "intelRdt": "",
    "personality": "",
    "timeOffsets": "",
    "memoryPolicy": "numactl(8) in the container sets one",
    "netDevices": "join a network namespace that has the device: linux.namespaces",
}
REFUSED_OF_ALL = dict.fromkeys(("solaris", "windows", "vm", "zos", "freebsd"), "this is a runtime for Linux")
# What is so anyway, and therefore no request.
_GRANTED = {"personality": ("domain", "LINUX"), "memoryPolicy": ("mode", "MPOL_DEFAULT")}
LONGEST_ANNOTATION = 1 << 20  # bytes
LONGEST_FILE_NAME = 255  # bytes
# The hooks that are run; all others are refused.
HOOKS: tuple[str, ...] = ()


class Process:
    """`process`: what is executed, and as whom.

    rlimits     (number, soft, hard)
    scheduler   None where nothing is said, as with io_priority
    affinity    the processors that `exec` begins on, and those of its program; empty where nothing is said
    warnings    what is left out of what was asked for
    """

    def __init__(self, fields: Fields) -> None:
        self.args = fields.texts("args", longest=LONGEST_ARGUMENT)
        self.env = fields.texts("env", longest=LONGEST_ARGUMENT)
        self.cwd = fields.text("cwd", "/")
        self.terminal = fields.flag("terminal")
        size = fields.object("consoleSize")
        # struct winsize has 16 bits for each.
        self.console_size = (size.number("height", low=0, high=65535), size.number("width", low=0, high=65535))
        user = fields.object("user")
        self.uid = user.id("uid")
        self.gid = user.id("gid")
        self.umask = user.optional_number("umask", low=0, high=0o777)
        self.additional_gids = user.ids("additionalGids")
        self.no_new_privileges = fields.flag("noNewPrivileges")
        self.oom_score_adj = fields.optional_number("oomScoreAdj", low=-1000, high=1000)
        self.warnings: list[str] = []
        sets = fields.object("capabilities")
        # None at all where the object is missing, as in runc.
        self.capabilities = {name: _capabilities(sets, name, self.warnings) for name in CAPABILITY_SETS}
        self.rlimits = _rlimits(fields)
        self.scheduler = scheduling.scheduler(fields)
        self.io_priority = scheduling.io_priority(fields)
        self.affinity = scheduling.affinity(fields)
        if not self.args or not self.args[0]:
            raise fields.wrong("args", "names no program")
        if not all(entry.find("=") > 0 for entry in self.env):
            raise fields.wrong("env", "must be an array of NAME=VALUE")
        if not self.cwd.startswith("/"):
            raise fields.wrong("cwd", f"must be an absolute path, not {shown(self.cwd)}")
        _refuse(user, {"username": "say it in numbers: process.user.uid"})
        _refuse(fields, REFUSED_OF_PROCESS)

    def with_arguments(self, args: list[str]) -> Process:
        """Another program as the same user in the same directory, without a terminal."""
        other = object.__new__(Process)
        other.__dict__.update(self.__dict__)
        other.args, other.terminal = args, False
        return other


CAPABILITY_SETS = ("bounding", "effective", "permitted", "inheritable", "ambient")


def _capabilities(sets: Fields, name: str, warnings: list[str]) -> list[str]:
    """Those that there are; the others are a warning each (config.md, "capabilities")."""
    values = sets.texts(name)
    unknown = [value for value in dict.fromkeys(values) if value not in NUMBERS]
    warnings.extend(f"{sets.at(name)}: {shown(value)} is unknown, and left out" for value in unknown)
    return [value for value in values if value not in unknown] if unknown else values


def _rlimits(process: Fields) -> list[tuple[int, int, int]]:
    found: dict[int, tuple[int, int, int]] = {}
    for entry in process.objects("rlimits"):
        name = entry.text("type")
        if name not in NUMBERS_OF_LIMITS:
            raise entry.wrong("type", f"unknown resource {shown(name)}")
        number = NUMBERS_OF_LIMITS[name]
        if number in found:
            raise entry.wrong("type", f"{name} stands twice")
        soft, hard = _rlimit_value(entry, "soft"), _rlimit_value(entry, "hard")
        if hard != -1 and not 0 <= soft <= hard:
            raise entry.wrong("soft", "is above the hard limit")
        found[number] = number, soft, hard
    return list(found.values())


def _rlimit_value(entry: Fields, name: str) -> int:
    value = entry.required_number(name)
    if value == (1 << 64) - 1:
        return -1  # RLIM_INFINITY, as an unsigned number
    if not -1 <= value < 1 << 63:
        raise entry.wrong(name, f"not a limit: {value}")
    return value


def _refuse(fields: Fields, refused: dict[str, str]) -> None:
    """Raises HostError for the first of these that asks for something."""
    for name, hint in refused.items():
        value = fields.data.get(name)
        if name in _GRANTED and isinstance(value, dict):
            key, granted = _GRANTED[name]
            value = {other: item for other, item in value.items() if (other, item) != (key, granted)}
        # Of devices a name alone says something.
        says = asks(value) or (name == "netDevices" and value)
        if says or not (value is None or isinstance(value, str | dict)):
            raise HostError("read config.json", fields.at(name), "not supported", hint or f"remove {fields.at(name)}")


class Mount:
    """One entry of `mounts`.

    read_only_later  it is the container's own /dev, which becomes read-only when what belongs into it is there
    """

    def __init__(self, fields: Fields, bundle: str) -> None:
        self.destination = fields.text("destination")
        self.type = fields.text("type")
        self.source = fields.text("source")
        words = fields.texts("options")
        self.uid_mappings = fields.id_maps("uidMappings")
        self.gid_mappings = fields.id_maps("gidMappings")
        self.is_bind = self.type == "bind" or "bind" in words or "rbind" in words
        if not self.destination:
            raise fields.wrong("destination", "names no path")
        if not self.destination.startswith("/"):
            # Relative destinations are deprecated in the specification, and read as below the root.
            self.destination = "/" + self.destination
        if not self.is_bind and not self.type:
            raise fields.wrong("type", "names no file system", "a directory of the host has the option bind or rbind")
        self._check_maps(fields)
        self.options = self._parse_options(fields, words)
        is_dev = not self.is_bind and os.path.normpath(self.destination) == "/dev"
        self.read_only_later = is_dev and bool(self.options.flags & MS_RDONLY)
        if self.read_only_later:
            self.options.flags &= ~MS_RDONLY
        if self.is_bind:
            if not self.source:
                raise fields.wrong("source", "names no path")
            self.source = os.path.join(bundle, self.source)

    def _check_maps(self, fields: Fields) -> None:
        if bool(self.uid_mappings) != bool(self.gid_mappings):
            raise fields.wrong(
                "uidMappings" if self.uid_mappings else "gidMappings", "needs those of the other kind too"
            )
        if self.uid_mappings and not self.is_bind:
            raise HostError(
                "read config.json", fields.at("uidMappings"), "only a bind mount has ids mapped", "remove it"
            )

    def _parse_options(self, fields: Fields, words: list[str]) -> Options:
        at = fields.at("options")
        if self.is_bind or self.type == "cgroup":
            options = Options(words, at)
            # Because there is no file system to be given them: this one is there already, with options of its own.
            lost = [*filter(None, options.data.split(",")), *options.of_file_system]
            if lost:
                hint = "a bind mount has the options of mount(8) that do not depend on the file system"
                raise UsageError("read config.json", at, f"{shown(lost[0])} has no effect on a bind mount", hint)
            return options
        options = Options([plain_option(word) for word in words], at)
        if len(os.fsencode(options.data)) > LONGEST_PATH:
            raise fields.wrong("options", f"are longer than {LONGEST_PATH} bytes")
        return options


# The bits of st_mode that say what a file is, by the letter of a device: mknod(2).
_TYPES_OF_DEVICES = {"c": 0o020000, "u": 0o020000, "b": 0o060000, "p": 0o010000}


class Device:
    """One entry of `linux.devices`."""

    def __init__(self, fields: Fields) -> None:
        self.path = fields.text("path")
        self.type = fields.text("type")
        if self.type not in _TYPES_OF_DEVICES:
            raise fields.wrong("type", "must be c, u, b or p")
        read = fields.number if self.type == "p" else fields.required_number
        self.major = read("major", low=0, high=(1 << 12) - 1)
        self.minor = read("minor", low=0, high=(1 << 20) - 1)
        self.mode = fields.number("fileMode", 0o666, low=0, high=0o177777)
        self.uid = fields.id("uid")
        self.gid = fields.id("gid")
        # Some engines write st_mode as it is.
        if self.mode & 0o170000 not in (0, _TYPES_OF_DEVICES[self.type]):
            raise fields.wrong("fileMode", "is that of another type of file")
        if not self.path.startswith("/dev/") or set(self.path[1:].split("/")) & {"", ".", ".."}:
            raise fields.wrong("path", "must lie under /dev")

    @classmethod
    def character(cls, path: str, major: int, minor: int) -> Device:
        """A character device that everybody may read and write."""
        return cls(Fields({"path": path, "type": "c", "major": major, "minor": minor}, "linux.devices"))


class Spec:
    """A whole config.json.

    namespaces   the CLONE_NEW* flag of each listed type -> the path to join, "" to make a new one
    sysctl       the path of each kernel parameter -> its value
    limits       what to write into the cgroup's files
    warnings     what is left out of what was asked for
    """

    def __init__(self, config: object, bundle: str) -> None:
        fields = Fields(config, "")
        self.bundle = bundle
        version = fields.text("ociVersion")
        if not version.startswith("1."):
            raise fields.wrong("ociVersion", f"1.x is understood, not {shown(version)}")
        self.version = version
        self.process = Process(fields.object("process"))
        self.warnings = self.process.warnings
        root = fields.object("root")
        path = root.text("path", "rootfs")
        if not path:
            raise root.wrong("path", "names no directory")
        self.root = os.path.join(bundle, path)
        self.root_readonly = root.flag("readonly")
        self.hostname = fields.text("hostname", longest=LONGEST_NAME)
        self.domainname = fields.text("domainname", longest=LONGEST_NAME)
        self.mounts = [Mount(mount, bundle) for mount in fields.objects("mounts")]
        self.annotations = fields.strings("annotations", longest=LONGEST_ANNOTATION)

        linux = fields.object("linux")
        self.namespaces: dict[int, str] = {}
        for namespace in linux.objects("namespaces"):
            kind = namespace.text("type")
            if kind not in TYPES:
                raise namespace.wrong("type", f"unknown namespace {shown(kind)}")
            if TYPES[kind] in self.namespaces:
                raise namespace.wrong("type", f"{kind} stands twice")
            path = namespace.text("path")
            if path and not path.startswith("/"):
                raise namespace.wrong("path", f"must be an absolute path, not {shown(path)}")
            self.namespaces[TYPES[kind]] = path
        self.uid_mappings = linux.id_maps("uidMappings")
        self.gid_mappings = linux.id_maps("gidMappings")
        self.devices = [Device(device) for device in linux.objects("devices")]
        self.cgroups_path = _cgroups_path(linux)
        self.resources: Json = linux.object("resources").data
        self.limits = resources.limits(self.resources)
        self.device_rules = resources.device_rules(self.resources)
        self.sysctl = sysctl.parse(linux.strings("sysctl"), self.namespaces)
        self.masked_paths = linux.paths("maskedPaths")
        self.readonly_paths = linux.paths("readonlyPaths")
        self.rootfs_propagation = linux.text("rootfsPropagation")
        if self.rootfs_propagation and self.rootfs_propagation not in PROPAGATION:
            raise linux.wrong("rootfsPropagation", f"must be one of {', '.join(PROPAGATION)}")
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
    hooks = fields.object("hooks")
    if any(hooks.objects(name) for name in hooks.data if name not in HOOKS):
        raise HostError("read config.json", "hooks", "hooks are not supported", "remove the hooks")
    _refuse(linux, REFUSED_OF_LINUX)
    _refuse(fields, REFUSED_OF_ALL)


def _cgroups_path(linux: Fields) -> str:
    path = linux.text("cgroupsPath")
    if any(len(os.fsencode(name)) > LONGEST_FILE_NAME or "\n" in name for name in path.split("/")):
        raise linux.wrong("cgroupsPath", f"a cgroup's name has at most {LONGEST_FILE_NAME} bytes, and one line")
    return path


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


def read_resources(path: str) -> Any:
    """The value of a file ("-": of stdin) that holds what `linux.resources` is in a config.json. Raises UsageError."""
    return _read_json("read --resources", path, "", is_stdin=path == "-")


def _read_json(step: str, path: str, hint: str, *, is_stdin: bool = False) -> Any:
    try:
        with open(0 if is_stdin else path, encoding="utf-8") as file:
            return json_text.loads(file.read())
    except OSError as error:
        raise UsageError(step, path, (error.strerror or "").lower(), hint) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(step, path, f"not JSON: {error}") from error
