"""An image's way from a registry, in the steps that `--explain` tells. How it is stored is in image/operations.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pycontainer.image import manifest
from pycontainer.kernel import record
from pycontainer.kernel.operation import Operation, word

if TYPE_CHECKING:
    from pycontainer.image.manifest import Descriptor
    from pycontainer.image.reference import Reference
    from pycontainer.image.registry.client import Registry
    from pycontainer.image.registry.fetch import Arrivals

    Found = tuple[Registry, bytes, manifest.Manifest, str, str]


class FetchManifest(Operation):
    """Ask the registry, or a mirror of it, what the image is made of; who has answered, and what."""

    group = "image"
    step = "fetch manifest"
    reason = "it names config and layers by their sha256: whoever keeps them, they cannot be exchanged"

    def __init__(self, name: Reference, find: Callable[[], Found]) -> None:
        self.path = str(name)
        self._find = find

    def shell(self) -> str:
        return f"skopeo inspect --raw docker://{word(self.path)}"

    def execute(self) -> Found:
        return self._find()


class FetchBlobs(Operation):
    """Begin to fetch what the store lacks; the pid of the process that does it.

    blobs  by their digits
    paths  where they are to be
    """

    group = "image"
    reason = "by a process of its own, three at a time: what is there is unpacked while the rest is on its way"

    def __init__(
        self,
        store: str,
        registry: Registry,
        blobs: dict[str, Descriptor],
        paths: dict[str, str],
        fork: Callable[[], int],
    ) -> None:
        """store: the directory that they will be in when the image is stored."""
        self.path = store
        self.step = f"fetch {len(blobs)} blobs, {sum(each.size for each in blobs.values())} bytes"
        self._registry = registry
        self._blobs = blobs
        self._paths = paths
        self._fork = fork

    def shell(self) -> str:
        # A registry that wants to know who asks answers 401, and says where a token is to be had.
        return "\n".join(
            f"curl --location --output {word(self._paths[digits])} {word(self._registry.url_of(blob))}"
            for digits, blob in self._blobs.items()
        )

    def execute(self) -> int:
        pid = self._fork()
        record.made("fork", [])
        return pid


class AwaitBlobs(Operation):
    """Wait until all has come. What the process did that has fetched it is told now."""

    group = "image"
    step = "wait for the rest"
    reason = (
        "a blob gets its name when its sha256 is right; what a pull that is killed leaves, the next one goes on with"
    )

    def __init__(self, arrivals: Arrivals) -> None:
        self._arrivals = arrivals

    def shell(self) -> str:
        return "\n".join(f"sha256sum {word(path)}" for path in self._arrivals.missing())

    def execute(self) -> None:
        while self._arrivals.receive():
            pass
        for line, times in self._arrivals.calls:
            record.count(line, times)


class ForgetDownloads(Operation):
    """Remove the names under which the next pull would have found what this one has fetched."""

    group = "image"
    step = "forget downloads"
    reason = "the store has them now, under its own names"

    def __init__(self, arrivals: Arrivals) -> None:
        self._arrivals = arrivals

    def shell(self) -> str:
        return f"rm {' '.join(map(word, paths))}" if (paths := self._arrivals.downloads()) else ""

    def execute(self) -> None:
        self._arrivals.forget()
