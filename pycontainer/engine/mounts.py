"""What a user asks to have mounted: -v, --mount, --tmpfs and --volumes-from, in docker's grammar."""

from __future__ import annotations

import os

from pycontainer.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SHORT = "-v /host/path:/container/path, -v NAME:/container/path or -v /container/path, with :ro behind it to only read"
_LONG = "--mount type=bind,source=/host/path,target=/container/path,readonly"
# A directory below ROOT/volumes is called so, and while it is being removed with ten characters more.
_LONGEST_NAME = 200
_CONSISTENCY = ("", "consistent", "cached", "delegated", "default")


class Mount:
    """One mount of a container's.

    kind       bind, volume or tmpfs
    source     path on the host, or the volume's name; empty for a tmpfs and a volume that has no name yet
    target     path in the container
    options    those of config.json
    mode       the third part of -v as it was written
    make       a source that is missing on the host is made
    copy       into a volume that is empty goes what the image has at the target
    anonymous  the volume was made for this container, and `rm -v` removes it
    mapped     the files have the same owners in the container as on the disk; otherwise they are nobody's there
    """

    __slots__ = ("anonymous", "copy", "kind", "make", "mapped", "mode", "options", "source", "target")

    def __init__(
        self,
        kind: str,
        source: str,
        target: str,
        options: list[str],
        *,
        mode: str = "",
        make: bool = False,
        copy: bool = False,
        anonymous: bool = False,
        mapped: bool = True,
    ) -> None:
        self.kind = kind
        self.source = source
        self.target = target
        self.options = options
        self.mode = mode
        self.make = make
        self.copy = copy
        self.anonymous = anonymous
        self.mapped = mapped

    @property
    def read_only(self) -> bool:
        return "ro" in self.options

    def changed(self, **values: Any) -> Mount:
        """The same with other values of these attributes."""
        return Mount(**{**self.to_json(), **values})

    def to_json(self) -> dict[str, Any]:
        """All of it, as the arguments of Mount."""
        return {name: getattr(self, name) for name in self.__slots__}


def anonymous_volume(target: str) -> Mount:
    """A volume that is made for the container."""
    return Mount("volume", "", target, _options("volume"), copy=True, anonymous=True)


def _options(
    kind: str, *, read_only: bool = False, propagation: str = "rprivate", tree: str = "rbind", below: str = "rro"
) -> list[str]:
    """below: the option for what is mounted below a read-only source; empty to leave that writable."""
    options = [tree, propagation]
    if kind == "volume":
        # because a volume may have the nodes of any device in it, from an image or from a container that may make them
        options.append("nodev")
    if read_only:
        options += [below, "ro"] if below else ["ro"]
    return options


def mount_point(path: str) -> str:
    """`path` without `.`, `..` and doubled slashes; "" for what nothing can be mounted on, as the root and /proc."""
    # One slash, because normpath() keeps exactly two at the beginning.
    normal = "/" + os.path.normpath(path).lstrip("/")
    unfit = normal == "/" or normal.split("/")[1] == "proc" or "\0" in path
    return normal if path.startswith("/") and not unfit else ""


def _target(flag: str, path: str, hint: str) -> str:
    target = mount_point(path)
    if not target:
        raise UsageError(flag, repr(path), "the path in the container must be absolute, and not / or in /proc", hint)
    return target


def volume_name(flag: str, text: str) -> str:
    """`text` where it can be a volume's name. Raises UsageError."""
    good = text[:1].isalnum() and all(character.isalnum() or character in "_.-" for character in text)
    if not good or not text.isascii() or not 2 <= len(text) <= _LONGEST_NAME:
        hint = f"2 to {_LONGEST_NAME} letters, digits and _.- of which the first is a letter or digit"
        raise UsageError(flag, repr(text), "not a volume's name", f"{hint}; a path of the host's begins with / or ./")
    return text


def parse_volume(text: str) -> Mount:
    """`[SRC:]DST[:OPTION[,OPTION…]]` of -v. Raises UsageError."""
    parts = text.split(":")
    if len(parts) == 1:
        return anonymous_volume(_target("--volume", text, _SHORT))
    if len(parts) > 3 or not parts[0] or not parts[1]:
        raise UsageError("--volume", repr(text), "not [SRC:]DST[:OPTIONS]", _SHORT)
    source, target = parts[0], _target("--volume", parts[1], _SHORT)
    mode = parts[2] if len(parts) == 3 else ""
    kind = "bind" if source.startswith(("/", ".")) else "volume"
    source = os.path.abspath(source) if kind == "bind" else volume_name("--volume", source)
    propagation, read_only, copy, mapped = "rprivate", False, kind == "volume", True
    for option in mode.split(","):
        if option == "ro":
            read_only = True
        elif option == "nocopy" and kind == "volume":
            copy = False
        elif option == "noidmap" and kind == "bind":
            mapped = False
        elif option.removeprefix("r") in ("shared", "slave", "private") and kind == "bind":
            propagation = _propagation("--volume", text, option)
        elif option not in ("rw", "z", "Z", *_CONSISTENCY):
            what = "host directories" if kind == "bind" else "volumes"
            raise UsageError("--volume", repr(text), f"no option of {what}: {option!r}", _SHORT)
    options = _options(kind, read_only=read_only, propagation=propagation)
    return Mount(kind, source, target, options, mode=mode, make=kind == "bind", copy=copy, mapped=mapped)


def _propagation(flag: str, text: str, value: str) -> str:
    if value.endswith("shared"):
        cause = "mounts made in the container cannot appear on the host"
        raise UsageError(flag, repr(text), cause, "rslave lets the host's mounts appear in the container")
    if value not in ("private", "rprivate", "slave", "rslave"):
        raise UsageError(flag, repr(text), f"no such propagation: {value!r}", "rprivate, private, rslave or slave")
    return value


# --mount: each key and the kinds that it is for.
_EVERY = ("bind", "volume", "tmpfs")
_KEYS = {
    "type": _EVERY,
    "source": ("bind", "volume"),
    "target": _EVERY,
    "readonly": _EVERY,
    "consistency": _EVERY,
    "bind-propagation": ("bind",),
    "bind-recursive": ("bind",),
    "bind-nonrecursive": ("bind",),
    "bind-noidmap": ("bind",),
    "volume-nocopy": ("volume",),
    "volume-driver": ("volume",),
    "tmpfs-size": ("tmpfs",),
    "tmpfs-mode": ("tmpfs",),
}
_ALIASES = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}
_FLAGS = ("readonly", "bind-nonrecursive", "bind-noidmap", "volume-nocopy")
_BOOLEANS = {"": True, "1": True, "true": True, "0": False, "false": False}
# bind-recursive -> how the tree is bound, and the option for what is mounted below a read-only source
_RECURSIVE = {
    "enabled": ("rbind", "rro"),
    "disabled": ("bind", ""),
    "writable": ("rbind", ""),
    "readonly": ("rbind", "rro"),
}


def parse_mount(text: str) -> Mount:
    """`KEY=VALUE,…` of --mount. Raises UsageError."""
    fields = _parse_fields(text)
    kind = fields.get("type", "volume")
    if kind not in _EVERY:
        raise UsageError("--mount", repr(text), f"no such type: {kind!r}", f"bind, volume or tmpfs: {_LONG}")
    for key in fields:
        if kind not in _KEYS[key]:
            raise UsageError("--mount", repr(text), f"{key} does not go with type={kind}", _LONG)
    if "target" not in fields:
        raise UsageError("--mount", repr(text), "target is missing", _LONG)
    target = _target("--mount", fields["target"], _LONG)
    read_only, source = _is_true(text, fields, "readonly"), fields.get("source", "")
    if kind == "tmpfs":
        return Mount("tmpfs", "", target, _tmpfs_options(text, fields, read_only))
    if kind == "bind":
        if not source.startswith(("/", ".")):
            cause = "source must be an absolute path" if source else "source is missing"
            raise UsageError("--mount", repr(text), cause, _LONG)
        mapped = not _is_true(text, fields, "bind-noidmap")
        return Mount("bind", os.path.abspath(source), target, _bind_options(text, fields, read_only), mapped=mapped)
    if fields.get("volume-driver", "local") != "local":
        raise UsageError("--mount", repr(text), "no such volume driver", "local is the only one")
    name = volume_name("--mount", source) if source else ""
    options = _options("volume", read_only=read_only)
    return Mount("volume", name, target, options, copy=not _is_true(text, fields, "volume-nocopy"), anonymous=not name)


def _parse_fields(text: str) -> dict[str, str]:
    """The values by key, of which each is known."""
    fields: dict[str, str] = {}
    for field in _split(text):
        key, equals, value = field.partition("=")
        key = _ALIASES.get(key.strip().lower(), key.strip().lower())
        if key not in _KEYS:
            raise UsageError("--mount", repr(text), f"no such key: {key!r}", f"{_LONG}; keys are {', '.join(_KEYS)}")
        if not equals and key not in _FLAGS:
            raise UsageError("--mount", repr(text), f"{key} needs a value", _LONG)
        if key in fields:
            raise UsageError("--mount", repr(text), f"{key} stands twice", _LONG)
        fields[key] = value
    if fields.get("consistency", "") not in _CONSISTENCY:
        raise UsageError("--mount", repr(text), "no such consistency", "leave it out: it means nothing on Linux")
    return fields


def _split(text: str) -> list[str]:
    """The fields of a line of comma separated values; one in quotation marks may hold commas: RFC 4180."""
    fields, rest, more = [], text, True
    while more:
        if not rest.startswith('"'):
            field, comma, rest = rest.partition(",")
            fields.append(field)
            more = bool(comma)
            continue
        field, position = "", 1
        while True:
            end = rest.find('"', position)
            if end < 0:
                raise UsageError("--mount", repr(text), "a quotation mark without its second one", _LONG)
            field += rest[position:end]
            if not rest.startswith('""', end):
                break
            field, position = field + '"', end + 2
        fields.append(field)
        more, rest = rest[end + 1 :].startswith(","), rest[end + 2 :]
        if not more and rest:
            raise UsageError("--mount", repr(text), "a comma must follow a quotation mark", _LONG)
    return fields


def _is_true(text: str, fields: dict[str, str], key: str) -> bool:
    value = fields.get(key, "false").lower()
    if value not in _BOOLEANS:
        raise UsageError("--mount", repr(text), f"{key} must be true or false", _LONG)
    return _BOOLEANS[value]


def _bind_options(text: str, fields: dict[str, str], read_only: bool) -> list[str]:
    recursive = fields.get("bind-recursive", "enabled")
    if _is_true(text, fields, "bind-nonrecursive"):
        recursive = "disabled"
    if recursive not in _RECURSIVE:
        raise UsageError("--mount", repr(text), "no such bind-recursive", ", ".join(_RECURSIVE))
    if recursive in ("writable", "readonly") and not read_only:
        raise UsageError("--mount", repr(text), f"bind-recursive={recursive} needs readonly", _LONG)
    tree, below = _RECURSIVE[recursive]
    propagation = _propagation("--mount", text, fields.get("bind-propagation", "rprivate"))
    return _options("bind", read_only=read_only, propagation=propagation, tree=tree, below=below)


def _tmpfs_options(text: str, fields: dict[str, str], read_only: bool) -> list[str]:
    options = ["nosuid", "nodev", "noexec"] + (["ro"] if read_only else [])
    if "tmpfs-size" in fields:
        # Here, because config.py imports this module.
        from pycontainer.engine.config.quantity import parse_size

        options.append(f"size={max(parse_size('--mount tmpfs-size', fields['tmpfs-size']), 0)}")
    if "tmpfs-mode" in fields:
        mode = fields["tmpfs-mode"]
        if not mode or mode.strip("01234567") or int(mode, 8) > 0o7777:
            raise UsageError("--mount", repr(text), "tmpfs-mode is no file mode", "octal digits, such as 1777 or 0700")
        options.append(f"mode={int(mode, 8):o}")
    return options


_TMPFS_VALUES = ("size", "nr_blocks", "nr_inodes", "mode", "uid", "gid", "mpol", "huge")
_TMPFS_WORDS = """
ro rw suid nosuid dev nodev exec noexec sync async dirsync atime noatime diratime nodiratime relatime norelatime
strictatime nostrictatime lazytime nolazytime symfollow nosymfollow defaults inode32 inode64 noswap
""".split()


def parse_tmpfs(text: str) -> Mount:
    """`DST[:OPTION[,OPTION…]]` of --tmpfs: options of mount(8) and tmpfs(5). Raises UsageError."""
    path, _, options = text.partition(":")
    target = _target("--tmpfs", path, "--tmpfs /tmp:size=64m")
    given = [option for option in options.split(",") if option]
    defaults = ["nosuid", "nodev"] + ([] if "exec" in given else ["noexec"])
    return Mount("tmpfs", "", target, defaults + [option for option in given if option != "exec"], mode=options)


def check_tmpfs(mount: Mount) -> None:
    """Raise UsageError where --tmpfs has an option that means nothing to tmpfs, or something else, as `bind` does."""
    for option in filter(None, mount.mode.split(",")):
        name, equals, _ = option.partition("=")
        if name not in (_TMPFS_VALUES if equals else _TMPFS_WORDS):
            hint = "such as size=64m, mode=1777 or exec; tmpfs(5) and mount(8) list them"
            raise UsageError("--tmpfs", mount.target, f"no option of tmpfs: {option!r}", hint)


def parse_volumes_from(text: str) -> tuple[str, bool]:
    """`CONTAINER[:ro]` of --volumes-from: the container's name, and whether to read only. Raises UsageError."""
    name, _, mode = text.partition(":")
    options = mode.split(",")
    if not name or set(options) - {"", "ro", "rw", "z", "Z"}:
        raise UsageError("--volumes-from", repr(text), "not CONTAINER[:ro]", "--volumes-from web:ro")
    return name, "ro" in options


def check(mounts: list[Mount]) -> None:
    """Raise UsageError where two are for the same place. One without a name gives way, as docker has it."""
    targets = [mount.target for mount in mounts if not mount.anonymous]
    for target in targets:
        if targets.count(target) > 1:
            raise UsageError("mount", target, "is given twice", "leave out one of -v, --mount and --tmpfs for it")


def completed(text: str) -> str:
    """`text` of -v with an absolute source, where that is a path from the current directory."""
    source, colon, rest = text.partition(":")
    return os.path.abspath(source) + colon + rest if source.startswith(".") and colon else text


def completed_mount(text: str) -> str:
    """The same for --mount. Raises UsageError."""
    fields = []
    for field in _split(text):
        key, equals, value = field.partition("=")
        if key.strip().lower() in ("source", "src") and value.startswith("."):
            field = key + equals + os.path.abspath(value)
        fields.append('"' + field.replace('"', '""') + '"' if '"' in field or "," in field else field)
    return ",".join(fields)
