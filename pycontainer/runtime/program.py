"""The program of `exec`, out of its options."""

from __future__ import annotations

from pycontainer.errors import UsageError
from pycontainer.kernel.capability import NUMBERS
from pycontainer.runtime import spec
from pycontainer.runtime.fields import Fields
from pycontainer.runtime.spec import Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def choose(bundle: str, options: dict[str, Any], words: list[str]) -> Process:
    """What the options say; the rest is as --process says, or as the container's own program has it.

    Follows the OCI runtime specification, config.md, "Process". Raises UsageError.
    """
    path = options.get("process")
    if not words and not path:
        raise UsageError("pycontainer-runtime exec", "", "expected a command after the container's id", "see --help")
    given = Fields(spec.read_process(path), "process") if path else Fields(spec.read(bundle), "").object("process")
    fields = dict(given.data)
    if words:
        fields["args"] = words
    if "tty" in options or not path:
        fields["terminal"] = "tty" in options
    if "cwd" in options:
        fields["cwd"] = options["cwd"]
    if "no-new-privs" in options:
        fields["noNewPrivileges"] = True
    fields["env"] = given.texts("env") + options.get("env", [])
    user = dict(given.object("user").data)
    if "user" in options:
        uid, _, gid = options["user"].partition(":")
        user["uid"], user["gid"] = _number("--user", uid), _number("--user", gid or "0")
    gids = [_number("--additional-gids", text) for text in options.get("additional-gids", [])]
    user["additionalGids"] = given.object("user").ids("additionalGids") + gids
    fields["user"] = user
    for name in options.get("cap", []):
        if name not in NUMBERS:
            raise UsageError("--cap", repr(name), "unknown capability", "capabilities(7) lists them")
    sets = given.object("capabilities")
    # Ambient ones have to be inheritable, which no option makes them.
    kinds = ("bounding", "effective", "permitted", *(["ambient"] if sets.texts("inheritable") else []))
    fields["capabilities"] = sets.data | {kind: sets.texts(kind) + options.get("cap", []) for kind in kinds}
    return Process(Fields(fields, "process"))


def _number(option: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise UsageError(option, repr(text), "must be a number")
    return int(text)
