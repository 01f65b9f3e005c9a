"""A client of the OCI distribution specification (1.1) and of Docker's registries: one repository of one registry.

Who may read what is asked for first without credentials, as Docker Hub wants it: a registry that wants to know who asks
answers 401 with a challenge, and then a token is fetched from where the challenge says (Docker's token
specification), or the name and password are sent (RFC 7617). Neither ever goes to another host: a redirect, as to the
object store that has a blob, is followed without them, and so is the place that a registry names for an upload.
"""

from __future__ import annotations

import contextlib
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urljoin, urlsplit

import urllib3

from pycontainer import __version__
from pycontainer.errors import HostError, ImageError, NotFound, UsageError, printable
from pycontainer.image import manifest
from pycontainer.image.manifest import Descriptor
from pycontainer.image.registry import challenge
from pycontainer.image.registry.config import Endpoint, endpoints
from pycontainer.image.registry.connections import Connections
from pycontainer.image.registry.credentials import Credentials
from pycontainer.image.registry.trouble import WAY, is_final, may_pass, unreachable, words

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

ACCEPT = ", ".join((*manifest.MANIFEST_TYPES, *manifest.INDEX_TYPES))
_DIGEST_HEADER = "Docker-Content-Digest"
_AGENT = f"pycontainer/{__version__}"

_TIMEOUT = urllib3.Timeout(connect=15, read=60)  # seconds
# A registry may copy all of a blob before it says that it has it.
_UPLOAD_TIMEOUT = urllib3.Timeout(connect=15, read=300)
# What registries say that do not know a path: RFC 9110. The specification wants 404. Some take it for a place where
# nobody may look; whoever may not read the repository was told so before.
_UNKNOWN = (400, 401, 403, 404, 405, 501)
_REDIRECTS = 5
ATTEMPTS = 4
_LONGEST_WAIT = 60.0  # seconds that a registry may tell us to wait, all of them together
_MOST_TAGS = 10_000
_MOST_REFERRERS = 1000
_MAX_TOKEN = 1 << 20

Notify = Callable[[str], None]


class Registry:
    """One repository at one endpoint.

    path         of the repository, such as library/alpine
    credentials  for the registry, None for none
    notify       gets a line for the user while something is waited for
    scopes       what a token is to permit, such as repository:team/app:pull,push; () for what the registry says itself
    """

    def __init__(
        self,
        endpoint: Endpoint,
        path: str,
        credentials: Credentials | None,
        notify: Notify,
        scopes: tuple[str, ...] = (),
    ) -> None:
        self.path = path
        self._scopes = scopes
        self._url = endpoint.url
        self._host = urlsplit(endpoint.url).netloc
        self._credentials = credentials
        self._notify = notify
        self._authorization = ""
        self._waited = 0.0
        self._waits_until = 0.0
        self._lock = threading.Lock()
        self._connections = Connections(endpoint)

    def manifest(self, reference: str) -> tuple[bytes, str]:
        """A manifest or an index by its tag or digest: its bytes, as they came, and their digest.

        Raises NotFound, UsageError, ImageError, HostError.
        """
        url = f"/v2/{self.path}/manifests/{reference}"
        with self._open("GET", url, {"Accept": ACCEPT}) as response:
            if response.status == 404:
                raise NotFound("pull", self._name(reference), "the registry has no such image or tag")
            self._check(response, self._name(reference))
            data = _read(response, manifest.MAX_JSON, self._name(reference))
            stated = response.headers.get(_DIGEST_HEADER, "")
        digest = manifest.digest_of(data)
        wanted = reference if ":" in reference else stated if stated.startswith("sha256:") else digest
        if digest != wanted:
            cause = f"wrong digest: what came is {digest}, not {printable(wanted[:80])}"
            raise ImageError("pull", self._name(reference), cause)
        return data, digest

    @contextlib.contextmanager
    def blob(self, descriptor: Descriptor, start: int) -> Iterator[BaseHTTPResponse]:
        """The body of a blob, from the byte `start` on where the registry can do that: status 206.

        Raises NotFound, UsageError, ImageError, HostError; while it is read, urllib3's HTTPError.
        """
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        with self._open("GET", f"/v2/{self.path}/blobs/{descriptor.digest}", headers) as response:
            if response.status == 404:
                raise NotFound(
                    "pull", self._name(descriptor.digest), "the registry does not have this part of the image"
                )
            if response.status != 416:
                self._check(response, self._name(descriptor.digest))
            yield response

    def url_of(self, descriptor: Descriptor) -> str:
        """Where a blob is asked for."""
        return f"{self._url}/v2/{self.path}/blobs/{descriptor.digest}"

    def tags(self) -> list[str]:
        """All tags of the repository. Raises as `manifest`."""
        url, found = f"/v2/{self.path}/tags/list", list[str]()
        while url:
            with self._open("GET", url, {}) as response:
                if response.status == 404:
                    raise NotFound("pull", self.path, "the registry has no such repository")
                self._check(response, self.path)
                document = manifest.parse_json(_read(response, manifest.MAX_JSON, self.path), self.path)
                link = response.headers.get("Link", "")
            tags = document.get("tags") if isinstance(document, dict) else None
            if not all(isinstance(tag, str) for tag in tags or []):
                raise ImageError("pull", self.path, "the registry's list of tags is none")
            found += tags or []
            if len(found) > _MOST_TAGS:
                raise ImageError("pull", self.path, f"more than {_MOST_TAGS} tags")
            url = _next(url, link) if tags else ""
        return found

    def referrers(self, digest: str) -> list[Any]:
        """Entries of the index of what refers to a manifest, as they came: the first thousand or so.

        Where the registry does not know that request, who pushes keeps the index under a tag.
        Raises as `manifest`.
        """
        url, found = f"/v2/{self.path}/referrers/{digest}", list[Any]()
        while url and len(found) < _MOST_REFERRERS:
            with self._open("GET", url, {"Accept": manifest.INDEX_TYPES[0]}) as response:
                if response.status in _UNKNOWN and not found:
                    return self._tagged_referrers(digest)
                self._check(response, self._name(digest))
                entries = self._entries(_read(response, manifest.MAX_JSON, self._name(digest)), digest)
                link = response.headers.get("Link", "")
            found += entries
            url = _next(url, link) if entries else ""
        return found

    def _tagged_referrers(self, digest: str) -> list[Any]:
        try:
            data, _ = self.manifest(digest.replace(":", "-"))
        except NotFound:
            return []
        return self._entries(data, digest)

    def _entries(self, data: bytes, digest: str) -> list[Any]:
        document = manifest.parse_json(data, self._name(digest))
        entries = document.get("manifests") if isinstance(document, dict) else None
        return entries if isinstance(entries, list) else []

    def check(self) -> None:
        """Ask for nothing but the permission to ask. Raises UsageError where it is refused, HostError."""
        with self._open("GET", "/v2/", {}) as response:
            self._check(response, self._host)

    def reach(self) -> None:
        """Ask whether it is there, whatever it permits, and get a token. Raises HostError, UsageError."""
        with self._open("GET", "/v2/", {}) as response:
            if response.status not in (401, 403):
                self._check(response, self._host)

    def disconnect(self) -> None:
        """Have no connection open, so that a process that is forked now shares none."""
        self._connections.close()

    @contextlib.contextmanager
    def ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> Iterator[BaseHTTPResponse]:
        """The response of this repository to a request for `path` below it, as `_open` has it; `check` it.

        Its Location is absolute. Raises HostError, UsageError.
        """
        with self._open(method, f"/v2/{self.path}/{path}", headers, body) as response:
            yield response

    @contextlib.contextmanager
    def send(
        self, method: str, url: str, headers: Mapping[str, str], body: Iterable[bytes]
    ) -> Iterator[BaseHTTPResponse]:
        """The response to a request that is made once only, because its body cannot be had a second time.

        Where it is 401, the next request has a new token. Raises HostError, UsageError, urllib3's HTTPError.
        """
        sent = self._authorization
        response = self._once(method, url, headers, body, _UPLOAD_TIMEOUT)
        try:
            if response.status == 401:
                self._authorize(response, sent)
            yield response
        finally:
            _close(response)

    def refuse(self, response: BaseHTTPResponse, reference: str) -> None:
        """Raise what an answer that is no success means for a blob or a tag. Raises UsageError, HostError."""
        self._check(response, self._name(reference))

    def _name(self, reference: str) -> str:
        return f"{self._host}/{self.path}{'@' if ':' in reference else ':'}{reference}"

    @contextlib.contextmanager
    def _open(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes = b""
    ) -> Iterator[BaseHTTPResponse]:
        """The response to a request, of which the body was not read: any status but what may change by asking again."""
        sent = self._authorization
        response = self._request(method, path, headers, body)
        try:
            if response.status == 401 and self._authorize(response, sent):
                response.close()
                response = self._request(method, path, headers, body)
            yield response
        finally:
            _close(response)

    def _request(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> BaseHTTPResponse:
        """Ask, and again where the registry or the way there is in trouble that may pass. Raises HostError."""
        for attempt in range(1, ATTEMPTS + 1):
            last = attempt == ATTEMPTS
            try:
                response = self._follow(method, urljoin(f"{self._url}/", path), headers, body)
            except urllib3.exceptions.HTTPError as error:
                if last or is_final(error):
                    raise self.unreachable(error) from error
                time.sleep(0.2 * attempt)
                continue
            if not may_pass(response.status):
                return response
            if last or not self.wait(response, attempt):
                return response
            response.close()
        raise AssertionError

    def wait(self, response: BaseHTTPResponse, attempt: int) -> bool:
        """Wait as long as the registry says, or a moment; whether there was time for it."""
        text = response.headers.get("Retry-After", "")
        seconds = float(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0.5 * attempt
        with self._lock:
            now = time.monotonic()
            # Those that wait at the same time wait once.
            added = max(0.0, now + seconds - max(now, self._waits_until))
            if self._waited + added > _LONGEST_WAIT:
                return False
            self._waited += added
            self._waits_until = max(self._waits_until, now + seconds)
        if seconds >= 1:
            reason = "limits how often it may be asked" if response.status == 429 else "is in trouble"
            self._notify(f"{self._host} {reason} (status {response.status}): asking again in {seconds:.0f} s")
        time.sleep(seconds)
        return True

    def _follow(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> BaseHTTPResponse:
        """Ask, and follow redirects, to other hosts without credentials. Raises urllib3's HTTPError, HostError."""
        for _ in range(_REDIRECTS + 1):
            response = self._once(method, url, headers, body or None, _TIMEOUT)
            target = response.headers.get("Location")
            if response.status not in (301, 302, 303, 307, 308) or not target:
                return response
            response.close()
            url = target
        raise HostError("follow the registry's redirect", printable(url), f"more than {_REDIRECTS} of them")

    def _once(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Iterable[bytes] | bytes | None,
        timeout: urllib3.Timeout,
    ) -> BaseHTTPResponse:
        """The response to one request, its Location absolute and not less protected than what led to it.

        Raises urllib3's HTTPError, HostError.
        """
        own = _place(url) == _place(self._url)
        sent = {"User-Agent": _AGENT, **headers}
        if self._authorization and own:
            sent["Authorization"] = self._authorization
        response = self._connections.to(url).request(
            method, url, body=body, headers=sent, redirect=False, retries=False, preload_content=False, timeout=timeout
        )
        if not own:
            # What another host wants to know is nothing that the registry's credentials are for.
            response.headers.discard("WWW-Authenticate")
        if target := response.headers.get("Location"):
            try:
                found = urljoin(url, target)
                scheme = urlsplit(found).scheme
            except ValueError:
                found, scheme = target, ""
            if scheme not in ("http", "https") or (urlsplit(url).scheme == "https" and scheme != "https"):
                response.close()
                cause = f"it leads to {printable(found[:100])}, which is not protected as this is"
                raise HostError("follow the registry's redirect", printable(url), cause)
            response.headers["Location"] = found
        return response

    def _check(self, response: BaseHTTPResponse, name: str) -> None:
        """Raise what an answer that is no success means, in the registry's own words where it has some."""
        if response.status < 300:
            return
        said = words(response)
        if response.status in (401, 403):
            asked = "may you push there?" if self._scopes else "does it exist? If it is not for everybody:"
            raise UsageError(
                "ask the registry", name, f"access denied{said}", f"{asked} pycontainer login {self._host}"
            )
        if response.status == 405 and self._scopes:
            hint = "it is read-only, or a mirror: push to another one"
            raise HostError("ask the registry", name, f"it takes nothing (status 405){said}", hint)
        if response.status == 429:
            raise HostError("ask the registry", name, f"it may not be asked so often{said}", "log in, or wait")
        raise HostError("ask the registry", name, f"it answers with status {response.status}{said}")

    def unreachable(self, error: Exception) -> HostError:
        """What to raise where the way to it is in trouble."""
        return unreachable(self._host, error, *((WAY,) if self._scopes else ()))

    # Who asks.

    def _authorize(self, response: BaseHTTPResponse, sent: str) -> bool:
        """Have what a 401 to a request with `sent` wants; whether there is something new to try.

        Raises HostError, UsageError.
        """
        with self._lock:
            if self._authorization == sent:
                self._authorization = self._answer(response) or sent
            return bool(self._authorization) and self._authorization != sent

    def _answer(self, response: BaseHTTPResponse) -> str:
        """The header that answers the challenges; "" where nothing does."""
        for each in challenge.parse(", ".join(response.headers.getlist("WWW-Authenticate"))):
            if each.scheme == "bearer" and "realm" in each.parameters:
                return f"Bearer {self._token(each.parameters)}"
            if each.scheme == "basic" and self._credentials is not None and self._credentials.password:
                return _basic(self._credentials)
        return ""

    def _token(self, parameters: dict[str, str]) -> str:
        """A token from the server that a challenge names. Raises HostError, UsageError."""
        realm = parameters["realm"]
        asked = [("service", parameters.get("service", ""))]
        scopes = challenge.merge_scopes(self._scopes, parameters.get("scope", ""))
        if not scopes and self.path:
            scopes = [f"repository:{self.path}:pull"]
        if urlsplit(realm).scheme not in ("http", "https") or (
            self._url.startswith("https:") and not realm.startswith("https:")
        ):
            raise HostError("ask for a token", printable(realm), "the registry names a server that is not protected")
        credentials, headers = self._credentials, {"User-Agent": _AGENT}
        body = None
        if credentials is not None and credentials.identity_token:
            asked += [
                ("scope", " ".join(scopes)),
                ("grant_type", "refresh_token"),
                ("refresh_token", credentials.identity_token),
                ("client_id", "pycontainer"),
            ]
            body = urlencode([(key, value) for key, value in asked if value or key != "scope"])
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        else:
            asked += [("scope", scope) for scope in scopes]
            if credentials is not None:
                asked.append(("account", credentials.username))
                headers["Authorization"] = _basic(credentials)
        url = realm if body else f"{realm}{'&' if '?' in realm else '?'}{urlencode(asked)}"
        try:
            response = self._connections.to(url).request(
                "POST" if body else "GET", url, body=body, headers=headers, redirect=False, retries=False,
                preload_content=False, timeout=_TIMEOUT,
            )  # fmt: skip
            try:
                if response.status in (401, 403):
                    cause = (
                        f"incorrect username or password{words(response)}"
                        if credentials
                        else "it wants to know who asks"
                    )
                    raise UsageError("ask for a token", printable(realm), cause, f"pycontainer login {self._host}")
                self._check(response, printable(realm))
                document = manifest.parse_json(_read(response, _MAX_TOKEN, realm), printable(realm))
            finally:
                response.close()
        except urllib3.exceptions.HTTPError as error:
            raise unreachable(urlsplit(realm).netloc, error) from error
        token = (document.get("token") or document.get("access_token")) if isinstance(document, dict) else None
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise HostError("ask for a token", printable(realm), "what came is no token")
        return token


def connect(
    domain: str, path: str, credentials: Credentials | None, notify: Notify, scopes: tuple[str, ...] = ()
) -> Iterator[Registry]:
    """The places where an image of that repository may be, the likeliest first. Raises UsageError.

    scopes  of who pushes, which nobody does to a mirror
    """
    for number, endpoint in enumerate(found := endpoints(domain, mirrors=not scopes)):
        # A mirror is another host, which the credentials are not for.
        own = number == len(found) - 1 or urlsplit(endpoint.url).hostname == urlsplit(found[-1].url).hostname
        yield Registry(endpoint, path, credentials if own else None, notify, scopes)


def check_login(domain: str, credentials: Credentials) -> None:
    """Raise UsageError where a registry refuses these credentials, HostError where it cannot be asked."""
    failure: HostError | None = None
    for registry in connect(domain, "", credentials, lambda _: None):
        try:
            registry.check()
            return
        except HostError as error:
            failure = failure or error
    assert failure is not None
    raise failure


def _close(response: BaseHTTPResponse) -> None:
    """Have done with it, and keep the connection if nothing is left to read."""
    if response.length_remaining == 0:
        with contextlib.suppress(urllib3.exceptions.HTTPError):
            response.read()
    response.close()


def _next(url: str, link: str) -> str:
    """The address of a list's next part, by a Link header (RFC 8288); "" for none."""
    return urljoin(url, link.partition("<")[2].partition(">")[0]) if 'rel="next"' in link else ""


def _place(url: str) -> str:
    """Host and port, in the one way in which they are written."""
    parts = urlsplit(url)
    try:
        port = "" if parts.port in (None, {"http": 80, "https": 443}.get(parts.scheme)) else f":{parts.port}"
    except ValueError:
        return parts.netloc
    return f"{parts.hostname}{port}"


def _basic(credentials: Credentials) -> str:
    pair = f"{credentials.username}:{credentials.password}"
    return f"Basic {b64encode(pair.encode(errors='surrogateescape')).decode()}"


def _read(response: BaseHTTPResponse, limit: int, name: str) -> bytes:
    """The whole body. Raises ImageError where it is larger than `limit` bytes, HostError where it breaks off."""
    try:
        data = response.read(limit + 1)
    except urllib3.exceptions.HTTPError as error:
        raise unreachable(name, error) from error
    if len(data) > limit:
        raise ImageError("ask the registry", printable(name), f"its answer has more than {limit} bytes")
    return data
