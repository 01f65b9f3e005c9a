"""The file of `--log`, from which callers of an OCI runtime learn what went wrong: lines as runc writes them.

One JSON object a line, or logfmt; both with the fields `level`, `msg` and `time` (RFC 3339), and where --debug is given
`file` and `func`: what raised the error.
"""

from __future__ import annotations

import os

from pycontainer.errors import UsageError

FORMATS = ("text", "json")


class ErrorLog:
    """`path` is made if it is missing; it is not kept open, so that no container can inherit it."""

    def __init__(self, path: str, form: str, *, debug: bool) -> None:
        self.path = os.path.abspath(path)
        self.form = form
        self.debug = debug
        os.close(self._open())

    def write(self, error: Exception | None, message: str) -> None:
        """Append the error, or without one a warning. Raises UsageError where that fails."""
        import time

        from pycontainer import json_text

        fields = {
            "level": "error" if error else "warning",
            "msg": message,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        if self.debug and error is not None:
            fields["file"], fields["func"] = _place(error)
        if self.form == "json":
            line = json_text.dumps(fields)
        else:
            words = {name: value if value.isalnum() else json_text.dumps(value) for name, value in fields.items()}
            line = " ".join(
                f"{name}={words[name]}" for name in ("time", "level", "msg", "file", "func") if name in words
            )
        descriptor = self._open()
        try:
            # One write, because several runtimes may append to one file.
            os.write(descriptor, f"{line}\n".encode())
        except OSError as cause:
            raise self._failed(cause) from None
        finally:
            os.close(descriptor)

    def _open(self) -> int:
        try:
            return os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY, 0o644)
        except OSError as cause:
            raise self._failed(cause) from None

    def _failed(self, cause: OSError) -> UsageError:
        return UsageError("write --log", self.path, (cause.strerror or "").lower())


def check_format(form: str) -> None:
    """Raises UsageError."""
    if form not in FORMATS:
        raise UsageError("pycontainer-runtime", "--log-format", f"must be text or json, not {form!r}")


def _place(error: Exception) -> tuple[str, str]:
    """The innermost `file:line` and function of the error's traceback."""
    trace = error.__traceback__
    if trace is None:
        return "", ""
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    return f"{code.co_filename}:{trace.tb_lineno}", code.co_qualname
