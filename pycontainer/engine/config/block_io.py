"""What a container may use of the disks."""

from __future__ import annotations

from pycontainer.engine.config.quantity import integer, optional, parse_size
from pycontainer.errors import UsageError
from pycontainer.kernel import block_device

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

Values = dict[str, "Any"]

# Those that limit a device: option -> the field of blockIO in config.json.
RATES = {
    "device_read_bps": "throttleReadBpsDevice",
    "device_write_bps": "throttleWriteBpsDevice",
    "device_read_iops": "throttleReadIOPSDevice",
    "device_write_iops": "throttleWriteIOPSDevice",
}


class BlockIO:
    """Limits of disks.

    weight   share of a disk's time beside others that want it too, 10 to 1,000, None where it was not said
    rates    option -> path of the device -> bytes, or operations, in a second
    """

    __slots__ = ("rates", "weight")

    def __init__(self, values: Values) -> None:
        self.weight: int | None = optional(_weight, "--blkio-weight", values.get("blkio_weight")) or None
        self.rates = {name: _rates(name, values.get(name) or []) for name in RATES}

    def check_machine(self) -> None:
        """Raise UsageError for what this machine cannot give."""
        for name in RATES:
            self.numbers(name)

    def numbers(self, name: str) -> list[tuple[int, int, int]]:
        """(major, minor, rate) for one of RATES. Raises UsageError."""
        return [(*_whole_disk(_flag(name), path), rate) for path, rate in self.rates[name].items()]


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _weight(flag: str, text: str) -> int:
    value = integer(flag, text)
    if value and not 10 <= value <= 1000:
        raise UsageError(flag, repr(text), "not a weight", "10 to 1000, such as --blkio-weight 300; 0 is none")
    return value


def _rates(name: str, texts: list[str]) -> dict[str, int]:
    """The device's path -> its rate; the last word on a device counts, and 0 is no limit."""
    flag, is_bytes = _flag(name), name.endswith("bps")
    example = f"{flag} /dev/sda:{'10m' if is_bytes else '500'}"
    found = {}
    for text in texts:
        path, colon, rate = text.rpartition(":")
        if not colon or not path.startswith("/") or not rate:
            raise UsageError(flag, repr(text), "not PATH:RATE", f"such as {example}")
        try:
            value = parse_size(flag, rate) if is_bytes else int(rate)
        except (UsageError, ValueError):
            value = -1
        if not 0 <= value < 1 << 63:
            what = "bytes" if is_bytes else "operations"
            raise UsageError(flag, repr(text), f"{rate!r} is not a number of {what} in a second", f"such as {example}")
        found[path] = value
    return {path: value for path, value in found.items() if value}


def _whole_disk(flag: str, path: str) -> tuple[int, int]:
    try:
        return block_device.whole_disk(path)
    except OSError as error:
        cause = (error.strerror or str(error)).lower()
        raise UsageError(flag, path, cause, "lsblk lists the disks, such as /dev/sda") from None
