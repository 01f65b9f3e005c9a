"""Users and groups by name, looked up in the container's own /etc/passwd and /etc/group: passwd(5), group(5)."""

from __future__ import annotations

from pycontainer.errors import UsageError
from pycontainer.kernel.root_path import read_in_root

_LIMIT = 1 << 20  # bytes read of each file; a bigger one is not a list of users
_MOST = (1 << 32) - 2
_MOST_GROUPS = 65536  # NGROUPS_MAX: setgroups(2)


class User:
    """Numeric ids as the program gets them, and its home directory."""

    __slots__ = ("gid", "groups", "home", "uid")

    def __init__(self, uid: int, gid: int, groups: list[int], home: str) -> None:
        self.uid = uid
        self.gid = gid
        self.groups = groups
        self.home = home


def resolve(root: int, text: str) -> User:
    """`USER[:GROUP]`, each a name or a number, in the root file system `root` (a descriptor). "" is root.

    Without GROUP the user's own group and every group that lists the user. Raises UsageError.
    """
    user_text, colon, group_text = text.partition(":")
    user_text = user_text or "0"
    entry = _find_user(root, user_text)
    if entry is None and not _is_number(user_text):
        cause = "no such user in the image's /etc/passwd"
        raise UsageError("--user", user_text, cause, "use a numeric id, or a name that the image has")
    name, uid, gid, home = entry or ("", _number("--user", user_text), 0, "/")
    if colon and group_text:
        gid = _find_group(root, group_text)
        return User(uid, gid, [gid], home)
    groups = [group for group, members in _groups(root) if name and name in members and group != gid]
    if len(groups) >= _MOST_GROUPS:
        cause = f"the image's /etc/group has the user in {len(groups)} groups, and the kernel takes {_MOST_GROUPS}"
        raise UsageError("--user", user_text, cause, "name one group: --user USER:GROUP")
    # The primary group too, because a set-group-ID program could otherwise shed it (CVE-2022-36109).
    return User(uid, gid, [gid, *groups], home)


def _find_user(root: int, text: str) -> tuple[str, int, int, str] | None:
    for fields in _lines(root, "/etc/passwd"):
        if len(fields) >= 6 and text in (fields[0], fields[2]) and _is_id(fields[2]) and _is_id(fields[3]):
            return fields[0], int(fields[2]), int(fields[3]), fields[5] or "/"
    return None


def _find_group(root: int, text: str) -> int:
    for fields in _lines(root, "/etc/group"):
        if len(fields) >= 3 and fields[0] == text and _is_id(fields[2]):
            return int(fields[2])
    if not _is_number(text):
        cause = "no such group in the image's /etc/group"
        raise UsageError("--user", text, cause, "use a numeric id, or a name that the image has")
    return _number("--user", text)


def _groups(root: int) -> list[tuple[int, list[str]]]:
    return [
        (int(fields[2]), fields[3].split(","))
        for fields in _lines(root, "/etc/group")
        if len(fields) >= 4 and _is_id(fields[2])
    ]


def _lines(root: int, path: str) -> list[list[str]]:
    try:
        data = read_in_root(root, path, _LIMIT)
    except OSError:
        # No such file, or nothing that can be read as one: then there are no names, and numbers still work.
        return []
    return [line.split(":") for line in data.decode(errors="replace").splitlines()]


def _is_number(text: str) -> bool:
    # isdigit() alone is true for superscripts, which int() refuses.
    return text.isascii() and text.isdigit() and len(text) < 20


def _is_id(text: str) -> bool:
    return _is_number(text) and int(text) <= _MOST


def _number(flag: str, text: str) -> int:
    number = int(text)
    if number > _MOST:
        raise UsageError(flag, text, "not an id", f"0 to {_MOST}")
    return number
