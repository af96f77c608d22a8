"""`[broker.NAME]`."""

from __future__ import annotations

from typing import Annotated, Literal

from edged.config.external import (
    ClientId,
    Ext,
    PrivateKey,
    SecretText,
    Url,
)
from edged.config.parsers.choices import Flag
from edged.config.parsers.measures import (
    Expiry,
    Keepalive,
    Packet,
)
from edged.config.parsers.names import (
    Text,
)
from edged.config.parsers.numbers import (
    integer,
)
from edged.config.parsers.paths import SmallFile
from edged.config.schema.keys import Key, Table
from edged.notation.units import H, S


class Broker(Table, frozen=True, kw_only=True):
    """One connection. With one broker it is everybody's; with two or more, every MQTT source and every publish names its own."""

    url: Annotated[
        Url,
        Key(
            "`mqtt://host[:1883]`, `mqtts://host[:8883]`, over websockets `ws://host[:80][/mqtt]`, `wss://host[:443][/mqtt]`, or "
            "`unix:/path`; no user or password in it"
        ),
    ]
    client_id: Annotated[
        ClientId | None,
        Key(
            "the client id, which must be unique at the broker",
            default='`"edged-{device}"`, with two or more brokers also `-NAME`',
        ),
    ] = None
    username: Annotated[Ext | None, Key("the user's name at the broker")] = None
    password: Annotated[SecretText | None, Key("the user's password")] = None
    ca: Annotated[SmallFile | None, Key("the authorities that may sign the broker's certificate", default="the system's")] = None
    cert: Annotated[SmallFile | None, Key("the client's certificate (mutual TLS); needs `key`")] = None
    key: Annotated[PrivateKey | None, Key("the key of the client's certificate, in PEM form; needs `cert`")] = None
    key_password: Annotated[SecretText | None, Key("the pass phrase of `key`")] = None
    alpn: Annotated[
        Text | None, Key("the name of the protocol in TLS, for brokers that share port 443: `x-amzn-mqtt-ca`", default="none")
    ] = None
    version: Annotated[
        Literal["auto", "5", "3.1.1"], Key("the MQTT version; auto: 5, then 3.1.1, and edged remembers what the broker accepted")
    ] = "auto"
    retain: Annotated[
        Flag,
        Key(
            "whether this broker has retained messages; false: edged sends will, status and results unretained. A "
            "broker that says so itself needs no key"
        ),
    ] = True
    keepalive: Annotated[Keepalive, Key("edged notices a dead connection within twice this time")] = 30 * S
    session_expiry: Annotated[
        Expiry,
        Key('how long the broker keeps the subscriptions and the queue of this daemon while it is away; `"0s"`: a clean session'),
    ] = 1 * H
    receive_maximum: Annotated[
        Annotated[int, integer(1, 65535)],
        Key("the most QoS 1 inputs that are unacknowledged at once: how much work this daemon takes in hand"),
    ] = 64
    max_packet: Annotated[
        Packet | None,
        Key(
            "the MQTT 5 Maximum Packet Size; under 3.1.1 edged refuses a larger packet by its length field",
            default="1MiB, or the largest `max_bytes` of its sources",
        ),
    ] = None
