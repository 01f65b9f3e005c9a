"""Connections to a registry and to the hosts that it leads to, kept and used again."""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3

from pycontainer.image.registry.config import Endpoint


class Connections:
    """To an endpoint as its configuration wants it, through the proxy that the environment names or directly."""

    def __init__(self, endpoint: Endpoint) -> None:
        options: dict[str, Any] = {"maxsize": 4, "cert_reqs": ssl.CERT_REQUIRED}
        if not endpoint.verify:
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
            options["cert_reqs"] = ssl.CERT_NONE
        if endpoint.authorities:
            options["ca_cert_data"] = endpoint.authorities
        if endpoint.certificate:
            options["cert_file"], options["key_file"] = endpoint.certificate
        self._options = options
        self._proxies = {scheme: url for scheme, url in getproxies().items() if scheme in ("http", "https") and url}
        self._managers: dict[str, urllib3.PoolManager] = {}

    def to(self, url: str) -> urllib3.PoolManager:
        """What asks for that URL."""
        parts = urlsplit(url)
        proxy = self._proxies.get(parts.scheme, "")
        if proxy and proxy_bypass(parts.netloc):
            proxy = ""
        if proxy not in self._managers:
            address = proxy if "//" in proxy else f"http://{proxy}"
            self._managers[proxy] = (
                urllib3.ProxyManager(address, **self._options) if proxy else urllib3.PoolManager(**self._options)
            )
        return self._managers[proxy]

    def close(self) -> None:
        """Close all that nobody uses now. The next request makes a new one."""
        for manager in self._managers.values():
            manager.clear()
