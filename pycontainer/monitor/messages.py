"""What a container's monitor and its clients say to each other, over SOCK_SEQPACKET: one packet, one JSON object.

          client                                          monitor
            │ ── attach, kill, stop, pause … ────────────▶ │
            │ ◀────────────────────────────── done ─────── │ or `error`; what was asked has its effect
            │ ── resize, signal, close ──────────────────▶ │ no answer
            │ ◀────────────────────────────── notice ───── │ a line for the user
            │ ◀────────────────────────────── over ─────── │ the program has ended; its output is still to be read
            │ ◀────────────────────────────── exit ─────── │ the program has ended; to every client, once for each run
            │ ◀────────────────────────── end of file ──── │ the container is down for good, or its monitor was killed

A client may go at any time. It never keeps the monitor waiting: one that does not read its answers is dropped.
"""

from __future__ import annotations

import os

from pycontainer import errors, json_text
from pycontainer.kernel import descriptors

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Sequence
    from typing import Any

Message = dict[str, "Any"]

_LARGEST = 8 << 20  # bytes of a request in a memfd
_MOST_DESCRIPTORS = 250  # in a packet: SCM_MAX_FD of unix(7) is 253

_KINDS: dict[str, type[errors.PycontainerError]] = {
    kind.__name__: kind
    for kind in (
        errors.StepFailed,
        errors.UsageError,
        errors.NotFound,
        errors.ImageNotFound,
        errors.Conflict,
        errors.ImageError,
        errors.HostError,
        errors.CommandNotFound,
        errors.CommandNotExecutable,
    )
}


def send(channel: _socket.socket, message: Message, passed: Sequence[int] = ()) -> None:
    """Send a message and descriptors. Raises OSError; never waits."""
    descriptors.send(channel, json_text.dumps(message).encode(), passed)


def send_many(channel: _socket.socket, message: Message, passed: Sequence[int]) -> None:
    """As `send`, with more descriptors than a packet can hold. Raises OSError."""
    while len(passed) > _MOST_DESCRIPTORS:
        send(channel, {"say": "more"}, passed[:_MOST_DESCRIPTORS])
        passed = passed[_MOST_DESCRIPTORS:]
    send(channel, message, passed)


def receive_many(channel: _socket.socket) -> tuple[Message | None, list[int]]:
    """What `send_many` sent, as `receive`. Raises OSError."""
    found: list[int] = []
    while True:
        message, passed = receive(channel)
        found += passed
        if message is None:
            close_all(found)
            return None, []
        if message.get("say") != "more":
            return message, found


def receive(channel: _socket.socket) -> tuple[Message | None, list[int]]:
    """The next message and its descriptors; None at the end, or after what is none. Raises OSError."""
    data, passed = descriptors.receive(channel, _MOST_DESCRIPTORS)
    try:
        message = json_text.loads(data.decode()) if data else None
    except ValueError:
        message = None
    if not isinstance(message, dict):
        close_all(passed)
        return None, []
    return message, passed


def close_all(passed: Sequence[int]) -> None:
    """Close descriptors that came with a message."""
    for descriptor in passed:
        os.close(descriptor)


def write_request(message: Message) -> int:
    """A memfd that holds a message, which may be larger than a packet: the first descriptor of one. Raises OSError."""
    descriptor = os.memfd_create("pycontainer-request", os.MFD_CLOEXEC)
    with open(os.dup(descriptor), "wb") as file:
        file.write(json_text.dumps(message).encode(errors="surrogateescape"))
    return descriptor


def read_request(descriptor: int) -> Message:
    """What `write_request` wrote. Raises OSError, ValueError."""
    data = os.pread(descriptor, _LARGEST, 0)
    message = json_text.loads(data.decode(errors="surrogateescape"))
    if not isinstance(message, dict):
        raise ValueError("not an object")
    return message


def pack_error(error: Exception) -> Message:
    """The message for an error; the client raises it again."""
    if isinstance(error, errors.PycontainerError):
        number = error.errno if isinstance(error, errors.StepFailed) else 0
        kind = next(each.__name__ for each in type(error).__mro__ if each in _KINDS.values())
        parts = [kind, error.step, error.path, error.cause, error.hint, number]
    elif isinstance(error, OSError):
        parts = ["OSError", str(error.filename or ""), "", (error.strerror or str(error)).lower(), "", error.errno or 0]
    else:
        step = "use the database" if type(error).__module__ == "sqlite3" else type(error).__name__
        parts = ["HostError", step, "", str(error), "", 0]
    return {"say": "error", "error": parts, "notes": getattr(error, "__notes__", [])}


def unpack_error(message: Message) -> Exception:
    """The error that `pack_error` packed."""
    error = _unpack(message)
    for note in message.get("notes", []):
        error.add_note(note)
    return error


def _unpack(message: Message) -> Exception:
    kind, step, path, cause, hint, number = message["error"]
    if kind == "StepFailed":
        return errors.StepFailed(step, path, number, hint=hint, cause=cause)
    if kind in _KINDS:
        return _KINDS[kind](step, path, cause, hint)
    return OSError(number, cause, step or None)
