"""Debian's docker-registry on loopback, for tests: plain, with TLS, with passwords; and what stands before it."""

from __future__ import annotations

import base64
import http.server
import json
import pathlib
import random
import shutil
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def registry(
    directory: pathlib.Path,
    *,
    port: int = 0,
    tls: tuple[str, str] | None = None,
    auth: str = "",
    readonly: bool = False,
) -> Iterator[str]:
    """One that runs, with its data in `directory`; its HOST:PORT. `auth` is YAML of its section of that name."""
    if shutil.which("docker-registry") is None:
        pytest.skip("docker-registry is not installed")
    directory.mkdir(exist_ok=True)
    port = port or free_port()
    lines = [
        "version: 0.1", f"storage: {{filesystem: {{rootdirectory: {directory}/data}}"
        + (", maintenance: {readonly: {enabled: true}}" if readonly else "") + "}",
        f"http: {{addr: '127.0.0.1:{port}'"
        + (f", tls: {{certificate: {tls[0]}, key: {tls[1]}}}" if tls else "") + "}",
    ]  # fmt: skip
    if auth:
        lines.append(f"auth: {auth}")
    config = directory / f"config{port}.yml"
    config.write_text("\n".join(lines) + "\n")
    with open(directory / "log", "ab") as log:
        process = subprocess.Popen(["docker-registry", "serve", config], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None, (directory / "log").read_text()
                assert time.monotonic() < deadline, "the registry does not come up"
                time.sleep(0.02)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def authority(directory: pathlib.Path) -> tuple[str, str, str]:
    """A private authority, and a certificate for 127.0.0.1 that it has signed: paths of CA, certificate, key."""
    run = lambda *words: subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=directory)  # noqa: E731
    common = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj")
    run("req", "-x509", *common, "/CN=test authority", "-keyout", "ca.key", "-out", "ca.crt", "-days", "2",
        "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=keyCertSign")  # fmt: skip
    run("req", *common, "/CN=127.0.0.1", "-keyout", "server.key", "-out", "server.csr")
    (directory / "extensions").write_text("subjectAltName=IP:127.0.0.1\n")
    run("x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
        "-extfile", "extensions", "-out", "server.crt")  # fmt: skip
    return tuple(str(directory / name) for name in ("ca.crt", "server.crt", "server.key"))  # type: ignore[return-value]


Answer = tuple[int, dict[str, str], bytes]


@contextmanager
def server(answer: Callable[[http.server.BaseHTTPRequestHandler], Answer | None]) -> Iterator[str]:
    """An HTTP server whose answers are made by a function; None closes the connection. Its HOST:PORT."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            found = answer(self)
            if found is None:
                self.close_connection = True
                return
            status, headers, body = found
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                if value:
                    self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)
            if "Cut" in headers:
                self.close_connection = True

        do_HEAD = do_POST = do_PUT = do_PATCH = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            pass

    with Server(("127.0.0.1", 0), Handler) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"127.0.0.1:{made.server_address[1]}"
        finally:
            made.shutdown()
            thread.join()


def fetch(host: str, path: str, headers: dict[str, str]) -> Answer:
    """What the registry at `host` answers."""
    import http.client

    connection = http.client.HTTPConnection(host, timeout=30)
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        body = response.read()
        kept = ("content-type", "docker-content-digest", "www-authenticate", "content-range", "link")
        return response.status, {k: v for k, v in response.getheaders() if k.lower() in kept}, body
    finally:
        connection.close()


def read_body(request: http.server.BaseHTTPRequestHandler) -> bytes:
    """All that a request brings."""
    return request.rfile.read(int(request.headers.get("Content-Length") or 0))


def forward(host: str, request: http.server.BaseHTTPRequestHandler, body: bytes, **changes: str) -> Answer:
    """What the registry at `host` answers to the same request, or to one with other headers."""
    import http.client

    connection = http.client.HTTPConnection(host, timeout=30)
    try:
        headers = {k: v for k, v in request.headers.items() if k.lower() not in ("content-length", "connection")}
        headers |= {k.replace("_", "-"): v for k, v in changes.items()}
        connection.request(request.command, request.path, body or None, headers)
        response = connection.getresponse()
        data = response.read()
        dropped = ("connection", "date", "transfer-encoding")
        return response.status, {k: v for k, v in response.getheaders() if k.lower() not in dropped}, data
    finally:
        connection.close()


class Faulty:
    """Between client and registry: what it does to an answer is drawn from a generator. `seen` is what was asked."""

    def __init__(self, host: str, seed: object) -> None:
        self.host = host
        self.generator = random.Random(str(seed))
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.lock = threading.Lock()

    def __call__(self, request: http.server.BaseHTTPRequestHandler) -> Answer | None:
        sent = dict(request.headers.items())
        with self.lock:
            self.seen.append((request.path, sent))
            fault = self.generator.choice(
                ["", "", "", "cut", "cut", "short", "flip", "429", "500", "503", "close", "long", "lie", "416"]
            )
            place = self.generator.random()
        if fault in ("500", "503"):
            return int(fault), {}, b"trouble"
        if fault == "429":
            return 429, {"Retry-After": "0"}, b'{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}'
        if fault == "close":
            return None
        kept = {k: v for k, v in sent.items() if k in ("Accept", "Range", "Authorization")}
        status, headers, body = fetch(self.host, request.path, kept)
        at = int(place * len(body)) if body else 0
        if fault == "416" and "Range" in sent:
            return 416, {}, b""
        if fault == "cut":
            return status, {**headers, "Content-Length": str(len(body)), "Cut": "yes"}, body[:at]
        if fault == "short":
            return status, headers, body[:at]
        if fault == "flip" and body:
            return status, headers, body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
        if fault == "long":
            return status, headers, body + bytes(1 << 20)
        if fault == "lie":
            return status, {**headers, "Docker-Content-Digest": f"sha256:{'0' * 64}"}, body
        return status, headers, body


class Tokens:
    """A token server as Docker Hub's, in front of a registry that wants its tokens: everybody may read `public/…`."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.own = ""
        self.asked: list[tuple[str, str]] = []

    def __call__(self, request: http.server.BaseHTTPRequestHandler) -> Answer | None:
        sent = request.headers.get("Authorization", "")
        self.asked.append((request.path, sent))
        if request.path.startswith("/token"):
            if sent.startswith("Basic ") and base64.b64decode(sent[6:]) != b"alice:secret":
                return 401, {}, b'{"details":"incorrect username or password"}'
            who = "alice" if sent else "anonymous"
            return 200, {}, json.dumps({"token": f"{who}-token", "expires_in": 300}).encode()
        granted = "alice-token" if "/private/" in request.path else "-token"
        if not (sent.startswith("Bearer ") and granted in sent):
            path = "/".join(request.path.split("/")[2:-2])
            challenge = (
                f'Bearer realm="http://{self.own}/token?x=1",service="test registry",scope="repository:{path}:pull"'
            )
            return (
                401,
                {"WWW-Authenticate": challenge},
                b'{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}',
            )
        if request.path == "/v2/":
            return 200, {}, b"{}"
        kept = {k: v for k, v in request.headers.items() if k in ("Accept", "Range")}
        return fetch(self.host, request.path, kept)


def environment(directory: pathlib.Path, **mirrors: str) -> dict[str, str]:
    """Variables that keep the machine's own settings out; docker.io's mirror where one is named."""
    config = directory / "config.toml"
    config.write_text(
        "".join(f'[registry."{name.replace("_", ".")}"]\nmirrors = ["{url}"]\n' for name, url in mirrors.items())
    )
    return {
        "PYCONTAINER_CONFIG": str(config),
        "PYCONTAINER_CERTS": str(directory / "certs.d"),
        "PYCONTAINER_AUTH": str(directory / "auth.json"),
        "DOCKER_CONFIG": str(directory),
    }
