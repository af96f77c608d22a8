"""Checks of what edged shows over HTTP."""

from __future__ import annotations

import importlib.util
import ipaddress

from edged.config.convert import Raw, Rule, Wrong
from edged.config.schema import Http, Table


def open_to_the_network(http: Http, raw: Raw) -> Wrong:
    if http.listen is None:
        if http.token is not None:
            yield "token", "has no effect without listen", "key"
        return
    host, port = http.listen
    if importlib.util.find_spec("h11") is None:
        yield "listen", 'needs h11, which is not installed; pip install "edged[http]"'
    if http.token is None and not is_loopback(host):
        where = f"{host}:{port} is open to the network"
        yield "listen", f'{where}; add http.token = {{ credential = "..." }}, or listen on 127.0.0.1'


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


RULES: dict[type[Table], tuple[Rule, ...]] = {Http: (Rule(("listen", "token"), open_to_the_network),)}
