"""How a container's output is kept: --log-driver and --log-opt."""

from __future__ import annotations

from pycontainer.engine.config.quantity import integer, parse_size
from pycontainer.errors import UsageError


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
                self.max_file = integer("--log-opt max-file", value)
                if not 1 <= self.max_file <= 1000:
                    raise UsageError("--log-opt", repr(option), "not a number of files", "max-file=3, 1 to 1000")
            else:
                raise UsageError("--log-opt", repr(option), "not supported", "max-size=SIZE and max-file=NUMBER")
