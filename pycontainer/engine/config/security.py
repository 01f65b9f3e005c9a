"""What a container's processes may do."""

from __future__ import annotations

from pycontainer.errors import UsageError
from pycontainer.kernel import capability
from pycontainer.runtime.defaults import CAPABILITIES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

Values = dict[str, "Any"]


class Security:
    """Privileges. user_namespace: whether the container has ids of its own; capabilities: CAP_* names to keep."""

    __slots__ = ("capabilities", "no_new_privileges", "privileged", "user_namespace")

    def __init__(self, values: Values) -> None:
        self.privileged = bool(values.get("privileged"))
        self.user_namespace = _user_namespace(values.get("userns")) and not self.privileged
        self.capabilities = _capabilities(
            values.get("cap_add") or [],
            values.get("cap_drop") or [],
            privileged=self.privileged,
            in_user_namespace=self.user_namespace,
        )
        self.no_new_privileges = _no_new_privileges(values.get("security_opt") or [])


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


def _no_new_privileges(options: list[str]) -> bool:
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
