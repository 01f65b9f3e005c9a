"""What Docker Hub is asked for by `login`, `push` and `pull`, by its own names and as its documentation has it.

A proxy on this machine stands for the Hub and for its token server, and a registry behind it has the images:
docs.docker.com/reference/api/registry/auth (challenge, token, scopes) and …/registry/latest (blobs, manifests).
"""

from __future__ import annotations

import base64
import http.server
import json
import pathlib
import random
import re
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from conftest import Pycontainer
from registry import Answer, environment, forward, read_body, registry
from test_image_layer import LayerTar, docker_archive

HUB = "registry-1.docker.io"
AUTH = "auth.docker.io"
BASIC = f"Basic {base64.b64encode(b'alice:secret').decode()}"
DIGEST = re.compile(r"sha256(?::|%3A)([0-9a-f]{64})")


class Hub:
    """Both hosts. `seen`: method, URL without its query, what matters of that, kind of credentials, status."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.seen: list[tuple[str, str, tuple[str, ...], str, int]] = []
        self.lock = threading.Lock()

    def __call__(self, name: str, request: http.server.BaseHTTPRequestHandler) -> Answer:
        body = read_body(request)
        sent = request.headers.get("Authorization", "")
        place = urlsplit(request.path)
        query = parse_qsl(place.query)
        answer = self.token(sent, query) if name == AUTH else self.answer(request, sent, body)
        shown = tuple(value for key, value in query if key in ("scope", "digest", "mount", "from"))
        with self.lock:
            self.seen.append((request.command, name + place.path, shown, sent.partition(" ")[0], answer[0]))
        return answer

    def token(self, sent: str, query: list[tuple[str, str]]) -> Answer:
        """Who asks without a name gets a token too, which permits to pull what is for everybody."""
        assert ("service", "registry.docker.io") in query
        known = sent == BASIC
        if sent and not known:
            return 401, {}, b'{"details":"incorrect username or password"}'
        token = f"{'alice' if known else 'nobody'}.{' '.join(value for key, value in query if key == 'scope')}"
        document = {"token": token, "access_token": token, "expires_in": 300, "issued_at": "2026-01-01T00:00:00Z"}
        return 200, {"Content-Type": "application/json"}, json.dumps(document).encode()

    def answer(self, request: http.server.BaseHTTPRequestHandler, sent: str, body: bytes) -> Answer:
        found = re.match(r"/v2/(.+)/(?:blobs|manifests|tags)/", request.path)
        path = found[1] if found else ""
        wanted = "pull" if request.command in ("GET", "HEAD") else "push"
        who, _, scopes = sent.removeprefix("Bearer ").partition(".")
        granted = [
            actions for each, _, actions in (s.rpartition(":") for s in scopes.split()) if each.endswith(f":{path}")
        ]
        permitted = not path or any(wanted in actions.split(",") for actions in granted)
        if not sent.startswith("Bearer ") or not permitted or (who != "alice" and wanted == "push"):
            asked = f',scope="repository:{path}:{"pull" if wanted == "pull" else "pull,push"}"' if path else ""
            challenge = f'Bearer realm="https://{AUTH}/token",service="registry.docker.io"{asked}'
            code = '{"errors":[{"code":"UNAUTHORIZED","message":"authentication required","detail":null}]}'
            return 401, {"Www-Authenticate": challenge}, code.encode()
        if not path:
            return 200, {}, b"{}"
        return forward(self.host, request, body, X_Forwarded_Proto="https")


def proxy_of(hub: Hub, context: ssl.SSLContext) -> socketserver.BaseServer:
    """What HTTPS_PROXY names: whatever it is to connect to, is the Hub."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        target = ""

        def do_CONNECT(self) -> None:
            assert self.path in (f"{HUB}:443", f"{AUTH}:443"), self.path
            self.send_response(200)
            self.end_headers()
            self.target = self.path.removesuffix(":443")
            self.connection = self.request = context.wrap_socket(self.connection, server_side=True)
            self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", 0)  # type: ignore[assignment]
            self.close_connection = False

        def do_GET(self) -> None:
            status, headers, body = hub(self.target, self)
            self.send_response(status)
            length = {} if "Content-Length" in headers else {"Content-Length": str(len(body))}
            for name, value in {**headers, **length}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_POST = do_PUT = do_PATCH = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
        daemon_threads = True

    return Server(("127.0.0.1", 0), Handler)


def certificate(directory: pathlib.Path) -> ssl.SSLContext:
    """Of both hosts, which is its own authority; `ca.crt` for the Hub."""
    place = directory / "certs.d" / HUB
    place.mkdir(parents=True)
    names = f"subjectAltName=DNS:{HUB},DNS:{AUTH}"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
               "-subj", "/CN=test", "-days", "2", "-addext", names, "-keyout", directory / "hub.key",
               "-out", place / "ca.crt"]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(place / "ca.crt", directory / "hub.key")
    return context


@pytest.fixture
def hub(pycontainer: Pycontainer, tmp_path: pathlib.Path) -> Iterator[Hub]:
    with registry(tmp_path / "registry") as host:
        found = Hub(host)
        server = proxy_of(found, certificate(tmp_path))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        pycontainer.environment.update(environment(tmp_path), HTTPS_PROXY=url, https_proxy=url)
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


def requests(hub: Hub) -> list[str]:
    """What was asked since the last time, one a line, digests and the registry's name for an upload replaced."""
    lines, numbers = [], dict[str, int]()
    for method, place, query, credentials, status in hub.seen:
        place = re.sub(r"/uploads/[0-9a-f-]{36}$", "/uploads/UUID", place)
        line = " ".join((method, place, *query, credentials or "-", str(status)))
        lines.append(DIGEST.sub(lambda found: f"#{numbers.setdefault(found[1], len(numbers) + 1)}", line))
    hub.seen.clear()
    return lines


V2 = f"{HUB}/v2"
APP = f"{V2}/team/app"


def test_login_push_and_pull(pycontainer: Pycontainer, hub: Hub) -> None:
    """Blobs go and come several at a time, so that of them the order of each one's own requests is compared."""
    data = LayerTar().add("file", random.Random(1).randbytes(100_000)).data()
    pycontainer("load", "-q", input=docker_archive([data], "team/app:1"), text=False, check=True)
    refused = pycontainer("push", "team/app:1")
    assert refused.returncode == 1 and f"pycontainer login {HUB}" in refused.stderr
    assert requests(hub)[:2] == [f"GET {V2}/ - 401", f"GET {AUTH}/token repository:team/app:pull,push - 200"]
    pycontainer("login", "-u", "alice", "--password-stdin", HUB, input="secret\n", check=True)
    assert requests(hub) == [f"GET {V2}/ - 401", f"GET {AUTH}/token Basic 200", f"GET {V2}/ Bearer 200"]

    pycontainer("push", "team/app:1", check=True)
    first, token, second, *blobs, last = requests(hub)
    assert first == f"GET {V2}/ - 401" and second == f"GET {V2}/ Bearer 200"
    assert token == f"GET {AUTH}/token repository:team/app:pull,push Basic 200"
    uploads = f"{APP}/blobs/uploads"
    for blob in ("#1", "#2"):
        own = [line for line in blobs if blob in line]
        assert own == [f"HEAD {APP}/blobs/{blob} Bearer 404", f"PUT {uploads}/UUID {blob} Bearer 201"]
        assert f"POST {uploads}/ Bearer 202" in blobs[blobs.index(own[0]) : blobs.index(own[1])]
    assert len(blobs) == 6
    assert last == f"PUT {APP}/manifests/1 Bearer 201"

    pycontainer("push", "team/app:1", check=True)
    *_, head, other, last = requests(hub)
    assert [head, other] == [f"HEAD {APP}/blobs/{blob} Bearer 200" for blob in ("#1", "#2")]
    assert last == f"PUT {APP}/manifests/1 Bearer 201"

    pycontainer("tag", "team/app:1", "team/two:1", check=True)
    pycontainer("push", "team/two:1", check=True)
    _, token, _, *blobs, last = requests(hub)
    assert token == f"GET {AUTH}/token repository:team/two:pull,push repository:team/app:pull Basic 200"
    for blob in ("#1", "#2"):
        assert [line for line in blobs if blob in line] == [
            f"HEAD {V2}/team/two/blobs/{blob} Bearer 404",
            f"POST {V2}/team/two/blobs/uploads/ {blob} team/app Bearer 201",
        ]
    assert len(blobs) == 4 and last == f"PUT {V2}/team/two/manifests/1 Bearer 201"

    pycontainer("rmi", "team/app:1", "team/two:1", check=True)
    pycontainer("pull", "team/app:1", check=True)
    first, token, second, *blobs = requests(hub)
    assert first == f"GET {APP}/manifests/1 - 401" and second == f"GET {APP}/manifests/1 Bearer 200"
    assert token == f"GET {AUTH}/token repository:team/app:pull Basic 200"
    assert sorted(blobs) == [f"GET {APP}/blobs/{blob} Bearer 200" for blob in ("#1", "#2")]


def test_pull_without_a_name(pycontainer: Pycontainer, hub: Hub) -> None:
    """An official image, of which there is none: who asks gets a token for the asking."""
    missing = pycontainer("pull", "nosuch")
    assert missing.returncode == 1 and "has no such image" in missing.stderr
    place = f"{V2}/library/nosuch/manifests/latest"
    assert requests(hub) == [
        f"GET {place} - 401",
        f"GET {AUTH}/token repository:library/nosuch:pull - 200",
        f"GET {place} Bearer 404",
    ]
