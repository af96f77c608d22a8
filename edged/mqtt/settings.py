"""What one broker connection needs to know, and what it counts. Pure, so that a plan can hold it and compare it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from msgspec.structs import replace

from edged.clock.spent import Spent
from edged.notation.values import BrokerUrl, Secret
from edged.topics import SHARE, unshared

# Retain handling of MQTT 5: which messages kept by the broker a subscription brings.
KEPT_ALWAYS, KEPT_IF_NEW, KEPT_NEVER = 0, 1, 2

WAITING = 16
"""Times the receive maximum: so many messages too many are kept, if they come to no more than one packet of full size.
With 64 that is all that mosquitto queues for a client, unless told otherwise."""


class Subscription(msgspec.Struct, frozen=True):
    """One topic filter. `identifier` (1 to 268,435,455; 0: none) comes back with each message under MQTT 5."""

    filter: str
    qos: int = 1
    identifier: int = 0
    retain_handling: int = KEPT_IF_NEW
    has_replies: bool = False
    """Whether requests that come by it are to be answered."""

    @property
    def is_shared(self) -> bool:
        """Whether a group shares what comes by it."""
        return self.filter.startswith(SHARE)


class LinkSettings(msgspec.Struct, frozen=True):
    """One connection: broker keys of the configuration, resolved; what to subscribe; bounds of the outgoing side.

    `key` is the text of a PEM file. `status_topic` empty: no will and no status. `may_retain`: whether the broker has retained
    messages; one that says that it has none need not be told.
    """

    name: str
    url: BrokerUrl
    client_id: str
    username: str | None = None
    password: Secret | None = None
    ca: Path | None = None
    cert: Path | None = None
    key: Secret | None = None
    key_password: Secret | None = None
    alpn: str = ""
    version: str = "auto"
    keepalive_s: int = 30
    session_expiry_s: int = 3600
    receive_maximum: int = 64
    max_packet: int = 1 << 20
    subscriptions: tuple[Subscription, ...] = ()
    status_topic: str = ""
    may_retain: bool = True
    inflight: int = 64
    outbox_items: int = 1000
    outbox_bytes: int = 1 << 20
    connect_timeout_s: float = 5.0
    retry_s: float = 2.0
    """Wait at most so long after a refused, unreachable or well-served connection (full jitter)."""
    refused_retry_s: tuple[float, float] = (1.0, 60.0)
    """Shortest and longest wait after the broker itself said no, or another client took the name."""

    @property
    def is_v5(self) -> bool:
        """Whether a connection begins with MQTT 5; with `auto` it does until the broker is known to have none."""
        return self.version != "3.1.1"

    def is_same_connection(self, other: LinkSettings) -> bool:
        """Whether a connection made for one can stay for the other: what is subscribed, and how much may wait, changes on the
        live one."""
        subscriptions, items, size = self.subscriptions, self.outbox_items, self.outbox_bytes
        return replace(other, subscriptions=subscriptions, outbox_items=items, outbox_bytes=size) == self

    @property
    def apart(self) -> LinkSettings:
        """Those of an observer, which takes no work away from a group: it gets every message itself."""
        return replace(self, subscriptions=tuple(replace(s, filter=unshared(s.filter)) for s in self.subscriptions))

    @property
    def is_clean(self) -> bool:
        """Whether the broker shall forget us at once."""
        return self.session_expiry_s == 0


@dataclass(slots=True)
class LinkCounts:
    """What one link did since the start. `connects` counts CONNACKs, `failures` exceptions of `on_publishes`, `excess`
    messages so far beyond the receive maximum that they were left with the broker (at QoS 0: lost)."""

    connects: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    received: int = 0
    excess: int = 0
    pings: int = 0
    failures: int = 0
    protocol_errors: int = 0
    spent: Spent = field(default_factory=lambda: {"receive": 0, "send": 0})
