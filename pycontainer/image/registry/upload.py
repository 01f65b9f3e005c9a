"""One blob to a registry: OCI distribution specification 1.1, "Pushing blobs".

    HEAD                             it is there: nothing to do
    POST ?mount=DIGEST&from=ORIGIN   another repository of the same registry has it: 201; or else 202, as below
    POST                             202, and the place for it
    └─ PUT ?digest=DIGEST            all of it at once
    or PATCH …, PUT ?digest=DIGEST   piece by piece, where the registry wants that or takes no more at once

What breaks off is begun anew, from HEAD on: it may have arrived all the same.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlencode

import urllib3

from pycontainer.errors import HostError, ImageError, printable
from pycontainer.image import kept
from pycontainer.image.kept import Part, Source
from pycontainer.image.registry.client import ATTEMPTS, Registry
from pycontainer.image.registry.trouble import is_final, may_pass
from pycontainer.image.store import Store

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

STEP = "push"
PUSHED = "Pushed"
EXISTS = "Layer already exists"
_MOUNTED = "Mounted from {}"

# Bytes of one request, 0 for all of the blob; the next where a registry, or what stands before it, finds that too much.
_SIZES = (0, 8 << 20, 1 << 20, 1 << 19)
_TYPE = {"Content-Type": "application/octet-stream"}


class _BeginAnew(Exception):
    """Another attempt may succeed."""


class _TooLarge(Exception):
    """The registry does not take so many bytes in one request."""


class _Place(NamedTuple):
    """Where the blob goes, and the fewest bytes that a piece of it has, 0 where all of it goes at once."""

    url: str
    least: int


class Uploader:
    """Brings blobs of the store into one repository; may be used by several threads.

    origins  another repository of the registry for a digest, which may have it
    report   gets the number of bytes that are done, less than 0 where they are sent again
    stop     is set when nobody wants it any more
    """

    def __init__(
        self,
        store: Store,
        registry: Registry,
        origins: Mapping[str, str],
        report: Callable[[int], None],
        stop: threading.Event,
    ) -> None:
        self._store = store
        self._registry = registry
        self._origins = origins
        self._report = report
        self._stop = stop

    def put(self, part: Part) -> str:
        """Have a blob there; what docker says of how. Raises UsageError, HostError, ImageError, StepFailed."""
        failures, smaller = 0, 0
        while True:
            if self._has(part):
                self._report(part.size)
                return EXISTS if not failures else PUSHED
            origin = self._origins.get(part.digest, "") if not failures else ""
            place = self._begin(part, origin)
            if place is None:
                self._report(part.size)
                return _MOUNTED.format(origin)
            with kept.open_blob(self._store, part, STEP) as source:
                try:
                    self._transfer(part, source, place, _SIZES[smaller], failures + 1)
                    return PUSHED
                except _TooLarge as error:
                    smaller += 1
                    if smaller == len(_SIZES):
                        cause = f"the registry does not take {error} bytes at once (status 413)"
                        hint = "what stands before it (nginx: client_max_body_size) should let more through"
                        raise HostError(STEP, part.place, cause, hint) from None
                except _BeginAnew:
                    failures += 1
                except urllib3.exceptions.HTTPError as error:
                    failures += 1
                    self._pause(part, error, failures)
                self._report(-source.done)

    def _pause(self, part: Part, error: urllib3.exceptions.HTTPError, failures: int) -> None:
        """Before the next attempt. Raises HostError where there is none."""
        if is_final(error):
            raise self._registry.unreachable(error) from error
        if failures == ATTEMPTS:
            cause = f"the connection broke off {failures} times: {printable(str(error))}"
            raise HostError(STEP, part.place, cause, "try again: what is there is not sent again") from error
        time.sleep(0.2 * failures)

    def _has(self, part: Part) -> bool:
        with self._registry.ask("HEAD", f"blobs/{part.digest}", {}) as response:
            if response.status == 404:
                return False
            self._registry.refuse(response, part.digest)
            check_digest(response, part.digest, part.place)
            return response.headers.get("Content-Length") in (None, str(part.size))

    def _begin(self, part: Part, origin: str) -> _Place | None:
        """A place for it; None where there is no need for one, because it comes from `origin`."""
        if origin:
            query = urlencode({"mount": part.digest, "from": origin})
            with self._registry.ask("POST", f"blobs/uploads/?{query}", {}) as response:
                if response.status == 201:
                    check_digest(response, part.digest, part.place)
                    return None
                if response.status == 202:
                    return self._place(part, response)
            # Any other answer only says that it cannot be had that way.
        with self._registry.ask("POST", "blobs/uploads/", {}) as response:
            self._registry.refuse(response, part.digest)
            return self._place(part, response)

    def _place(self, part: Part, response: BaseHTTPResponse) -> _Place:
        url = response.headers.get("Location")
        if not url:
            raise HostError(STEP, part.place, "the registry does not say where to put it")
        least = response.headers.get("OCI-Chunk-Min-Length", "")
        return _Place(url, int(least) if least.isascii() and least.isdigit() and len(least) < 12 else 0)

    def _transfer(self, part: Part, source: Source, place: _Place, size: int, attempt: int) -> None:
        """All of it. Raises _BeginAnew, _TooLarge, urllib3's HTTPError, and what else `put` raises."""
        url = place.url
        if size or place.least:
            size = max(size or _SIZES[1], place.least)
            while source.done < part.size:
                url = self._piece(part, source, url, min(size, part.size - source.done), attempt)
        url = f"{url}{'&' if '?' in url else '?'}{urlencode({'digest': part.digest})}"
        count = part.size - source.done
        headers = {**_TYPE, "Content-Length": str(count)}
        with self._registry.send("PUT", url, headers, self._counted(part, source, count)) as response:
            self._accept(part, response, attempt, size)
            check_digest(response, part.digest, part.place)

    def _piece(self, part: Part, source: Source, url: str, count: int, attempt: int) -> str:
        """The next `count` bytes; where the rest goes."""
        first = source.done
        last = first + count - 1
        headers = {**_TYPE, "Content-Length": str(count), "Content-Range": f"{first}-{last}"}
        with self._registry.send("PATCH", url, headers, self._counted(part, source, count)) as response:
            self._accept(part, response, attempt, count)
            stored = response.headers.get("Range", "").removeprefix("bytes=")
            if stored and stored != f"0-{last}":
                if attempt == ATTEMPTS:
                    raise HostError(STEP, part.place, f"the registry has bytes {printable(stored)} of it, not 0-{last}")
                raise _BeginAnew
            return response.headers.get("Location") or url

    def _counted(self, part: Part, source: Source, count: int) -> Iterator[bytes]:
        for data in source.read(count):
            if self._stop.is_set():
                raise HostError(STEP, part.place, "interrupted")
            self._report(len(data))
            yield data

    def _accept(self, part: Part, response: BaseHTTPResponse, attempt: int, size: int) -> None:
        """Return where that went well. Raises _BeginAnew, _TooLarge, UsageError, HostError."""
        if response.status < 300:
            return
        # 416 to all of a blob at once comes from registries that know pieces only.
        if response.status == 413 or (response.status == 416 and not size):
            raise _TooLarge(size or part.size)
        if attempt < ATTEMPTS:
            # A token that has become too old is a new one now, and an upload that is forgotten is begun anew.
            if response.status in (401, 404, 416):
                raise _BeginAnew
            if may_pass(response.status) and self._registry.wait(response, attempt):
                raise _BeginAnew
        self._registry.refuse(response, part.digest)


def check_digest(response: BaseHTTPResponse, digest: str, place: str) -> None:
    """Raise ImageError where a registry says that what it has is something else."""
    stated = response.headers.get("Docker-Content-Digest", "")
    if stated.startswith("sha256:") and stated != digest:
        cause = f"wrong digest: the registry says {printable(stated[:80])}"
        raise ImageError(STEP, place, cause, "the registry, or somebody on the way to it, has changed it")
