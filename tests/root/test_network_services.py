"""Programs that people run: nginx in front of replicas that it finds by one name, while they are exchanged."""

from __future__ import annotations

import io
import itertools
import json
import pathlib
import re
import shutil
import subprocess
import tarfile
import threading
import time
import urllib.request
from collections.abc import Iterator

import pytest
from conftest import Pycontainer, end_processes, wait_until

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/sbin:/bin")
# With a variable nginx asks the name server while it runs, here once a second. What it has got meanwhile may have gone:
# it tries the next address then.
CONFIGURATION = """
daemon off;
user root;
pid /tmp/pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    resolver {gateway} valid=1s;
    proxy_connect_timeout 1s;
    proxy_next_upstream error timeout;
    server {{
        listen 80;
        location / {{
            set $up http://any:80;
            proxy_pass $up;
        }}
    }}
}}
"""
DIRECTORIES = ("etc", "tmp", "var/lib/nginx", "var/log/nginx")
SERVE = "echo {} > /tmp/index.html; exec httpd -f -h /tmp"
SECONDS = 15  # for which the client asks


def pack(archive: pathlib.Path, configuration: str) -> None:
    """A root file system with the host's nginx and its libraries."""
    assert NGINX
    listed = subprocess.run(["ldd", NGINX], capture_output=True, text=True, check=True).stdout
    libraries = re.findall(r"(/\S+) \(0x", listed)
    texts = {"etc/passwd": "root:x:0:0::/:\n", "etc/group": "root:x:0:\n", "etc/nginx.conf": configuration}
    with tarfile.open(archive, "w") as tar:
        for name in DIRECTORIES:
            directory = tarfile.TarInfo(name)
            directory.type, directory.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(directory)
        for name, text in texts.items():
            file = tarfile.TarInfo(name)
            file.size, file.mode = len(text), 0o644
            tar.addfile(file, io.BytesIO(text.encode()))
        for path in {NGINX, *libraries}:
            # What it leads to, and not the link.
            tar.add(pathlib.Path(path).resolve(), arcname=path)


class Client:
    """Asks again and again. `answers` is what came, `failures` what did not."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._go_on)
        self.answers: list[str] = []
        self.failures: list[str] = []

    def ask(self) -> str:
        # Without a proxy, whatever the environment says.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(self._url, timeout=10) as answer:
            return str(answer.read().decode().strip())

    def __enter__(self) -> Client:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _go_on(self) -> None:
        while not self._over.wait(0.005):
            try:
                self.answers.append(self.ask())
            except OSError as error:
                self.failures.append(str(error))


@pytest.fixture
def shop(busybox: str, pycontainer: Pycontainer) -> Iterator[Pycontainer]:
    pycontainer("network", "create", "shop", check=True)
    yield pycontainer
    end_processes(pycontainer.environment)


def run_replica(shop: Pycontainer, name: str) -> None:
    shop("run", "-d", "--name", name, "--network", "name=shop,alias=any", "busybox", "sh", "-c", SERVE.format(name),
         check=True)  # fmt: skip


def answers(client: Client, name: str) -> bool:
    """Whether the proxy gets to that one."""
    try:
        return client.ask() == name
    except OSError:
        return False


@pytest.mark.skipif(NGINX is None, reason="there is no nginx here (apt-get install nginx)")
def test_replicas_are_exchanged_and_no_request_fails(shop: Pycontainer, tmp_path: pathlib.Path) -> None:
    (network,) = json.loads(shop("network", "inspect", "shop", check=True).stdout)
    pack(tmp_path / "nginx.tar", CONFIGURATION.format(gateway=network["IPAM"]["Config"][0]["Gateway"]))
    shop("import", tmp_path / "nginx.tar", "nginx", check=True)
    for number in range(3):
        run_replica(shop, f"replica-{number}")
    shop("run", "-d", "--name", "proxy", "--network", "shop", "-p", "127.0.0.1:0:80", "nginx", NGINX, "-c",
         "/etc/nginx.conf", check=True)  # fmt: skip
    port = int(shop("port", "proxy", "80", check=True).stdout.rpartition(":")[2])
    client = Client(port)
    for number in range(3):
        wait_until(lambda name=f"replica-{number}": answers(client, name), message=shop("logs", "proxy").stderr)
    end = time.monotonic() + SECONDS
    with client:
        wait_until(lambda: len(set(client.answers)) == 3)
        for number in itertools.count():
            if time.monotonic() > end and number >= 3:
                break
            shop("rm", "-f", f"replica-{number}", check=True)
            run_replica(shop, f"replica-{number + 3}")
            wait_until(lambda name=f"replica-{number + 3}": name in client.answers, message="no answer of the new one")
    assert client.failures == [], shop("logs", "proxy").stderr[-2000:]
    # Each of them has had its share.
    assert set(client.answers) == {f"replica-{each}" for each in range(number + 3)}
