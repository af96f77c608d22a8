"""Plans one connection for every broker: its address, its subscriptions, its bounds."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence

from edged.config.schema import Broker, Config
from edged.errors import Problem
from edged.mqtt.settings import KEPT_IF_NEW, KEPT_NEVER, LinkSettings, Subscription
from edged.notation.units import KIB, MIB
from edged.plan.records import SourcePlan
from edged.plan.scope import Scope
from edged.plan.sources import mqtt_settings
from edged.topics import shared

MIN_PACKET = MIB
SMALLEST_PACKET = 512
"""Bytes: a broker's greeting, with its properties, must fit into `max_packet`."""
BESIDE_PAYLOAD = 64 * KIB
"""Topic and properties ride in the packet too."""


def plan_links(
    config: Config, device: str, base_topic: str, sources: Mapping[str, SourcePlan], problems: list[Problem]
) -> dict[str, LinkSettings]:
    """One link for every broker of the file."""
    links: dict[str, LinkSettings] = {}
    seen: dict[tuple[str, str], str] = {}
    for name, broker in config.broker.items():
        at = Scope(f"broker.{name}", problems)
        client_id = broker.client_id or f"edged-{device}" + (f"-{name}" if len(config.broker) > 1 else "")
        other = seen.setdefault((str(broker.url), client_id), name)
        if other != name:
            at.wrong(
                "client_id",
                f"this name is that of broker.{other} at the same address: the broker would end one connection for the other",
            )
        if broker.password is not None and broker.url.scheme in ("mqtt", "ws") and not _is_here(broker.url.host):
            text = (
                f"it goes to {broker.url.host} as plain text, and whoever is on the way can read it; use {broker.url.scheme}s://"
            )
            at.warn("password", text)
        mine = [s for s in sources.values() if s.broker == name]
        _check_packet(at, broker, mine)
        links[name] = _link(name, broker, client_id, f"{base_topic}/status", mine)
    return links


def _is_here(host: str) -> bool:
    """Whether what goes there stays on this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _check_packet(at: Scope, broker: Broker, sources: Sequence[SourcePlan]) -> None:
    if broker.max_packet is not None and broker.max_packet < SMALLEST_PACKET:
        at.wrong(
            "max_packet", f'expected at least "{SMALLEST_PACKET}B", found "{broker.max_packet}B": every CONNACK needs that much'
        )
    for source in sources:
        largest = mqtt_settings(source).max_bytes
        if broker.max_packet is not None and broker.max_packet < largest:
            text = f"{broker.max_packet // KIB} KiB is less than max_bytes of source.{source.name}, {largest // KIB} KiB"
            at.warn("max_packet", f"{text}: a broker silently drops larger messages")


def _link(name: str, broker: Broker, client_id: str, status_topic: str, sources: Sequence[SourcePlan]) -> LinkSettings:
    subscriptions = tuple(
        Subscription(
            filter=shared(mqtt_settings(source).share or "", topic.mqtt),
            qos=mqtt_settings(source).qos,
            identifier=identifier,
            retain_handling=KEPT_IF_NEW if mqtt_settings(source).retained else KEPT_NEVER,
            has_replies=bool(source.replies),
        )
        for source in sources
        for identifier, topic in source.filters
    )
    largest = max((mqtt_settings(source).max_bytes for source in sources), default=0)
    return LinkSettings(
        name=name,
        url=broker.url,
        client_id=client_id,
        username=broker.username,
        password=broker.password,
        ca=broker.ca,
        cert=broker.cert,
        key=broker.key,
        key_password=broker.key_password,
        alpn=broker.alpn or "",
        version=broker.version,
        keepalive_s=max(1, broker.keepalive // 10**9),
        session_expiry_s=broker.session_expiry // 10**9,
        receive_maximum=broker.receive_maximum,
        max_packet=broker.max_packet or max(MIN_PACKET, largest + BESIDE_PAYLOAD),
        subscriptions=subscriptions,
        status_topic=status_topic,
        may_retain=broker.retain,
    )
