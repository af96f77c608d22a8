"""Checks of brokers, and of health, which goes to them."""

from __future__ import annotations

from edged.config.convert import Raw, Rule, Wrong
from edged.config.external import NO_PASS_PHRASE, has_pass_phrase
from edged.config.schema import (
    Broker,
    Health,
    Table,
)
from edged.notation.files import read_small
from edged.notation.units import MS
from edged.notation.words import shown


def mutual_tls(table: Broker, raw: Raw) -> Wrong:
    if (table.cert is None) != (table.key is None):
        given, absent = ("cert", "key") if table.key is None else ("key", "cert")
        yield given, f"mutual TLS needs cert and key, and {absent} is missing; add it, or remove {given}"


def tls_keys(table: Broker, raw: Raw) -> Wrong:
    if not table.url.is_tls:
        secure = "wss" if table.url.is_websocket else "mqtts"
        for name in ("ca", "cert", "key", "key_password", "alpn"):
            if name in raw:
                yield name, f"has no effect with {table.url}, which is not encrypted; write {secure}://", "key"


def pass_phrase(table: Broker, raw: Raw) -> Wrong:
    if table.key is None:
        if table.key_password is not None:
            yield "key_password", "has no effect without key, whose pass phrase it is; add cert and key", "key"
    elif has_pass_phrase(table.key) and table.key_password is None:
        yield "key", f"it has a pass phrase; add key_password, or a key without: {NO_PASS_PHRASE}"
    elif not has_pass_phrase(table.key) and table.key_password is not None:
        yield "key_password", "has no effect, since key has no pass phrase; remove it", "key"


def certificates(table: Broker, raw: Raw) -> Wrong:
    for name in ("ca", "cert"):
        path = getattr(table, name)
        if path is None:
            continue
        try:
            read_small(path)
        except ValueError as error:
            yield name, str(error)


def password_alone(table: Broker, raw: Raw) -> Wrong:
    if table.version == "3.1.1" and table.password is not None and table.username is None:
        yield "password", 'MQTT 3.1.1 has no password without a user; add username, or use version = "5"'


def health_interval(table: Health, raw: Raw) -> Wrong:
    if table.interval < 100 * MS:
        yield "interval", f'expected at least "100ms", found {shown(raw["interval"])}'


def health_nowhere(table: Health, raw: Raw) -> Wrong:
    if table.broker == () and "interval" in raw:
        yield "interval", "has no effect with broker = []: health is published nowhere", "key"


RULES: dict[type[Table], tuple[Rule, ...]] = {
    Broker: (
        Rule(("cert", "key"), mutual_tls),
        Rule(("url",), tls_keys),
        Rule(("key", "key_password"), pass_phrase),
        Rule(("ca", "cert"), certificates),
        Rule(("version", "username", "password"), password_alone),
    ),
    Health: (Rule(("interval",), health_interval), Rule(("interval", "broker"), health_nowhere)),
}
