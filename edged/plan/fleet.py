"""Plans how models come over MQTT."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from edged.config.schema import Config
from edged.errors import Problem
from edged.mqtt.settings import KEPT_ALWAYS, LinkSettings, Subscription
from edged.notation.units import GIB, KIB
from edged.plan.records import FleetPlan, Machine
from edged.plan.scope import Scope
from edged.topics import TopicError, parse_template

PACKET = 64 * KIB
"""An announcement is a few hundred bytes; with a list of devices some thousand."""


def plan_fleet(
    config: Config, known: Mapping[str, str], links: Mapping[str, LinkSettings], machine: Machine, problems: list[Problem]
) -> FleetPlan | None:
    """None: models come from files alone. `known` has what topics may name everywhere."""
    fleet = config.fleet
    if fleet is None:
        return None
    at = Scope("fleet", problems)
    broker = fleet.broker or next(iter(config.broker), "")
    if fleet.broker is None and len(config.broker) != 1:
        at.wrong("broker", f"required, since there are {len(config.broker)} brokers", "table")
        return None
    if broker not in links:
        at.wrong("broker", f'expected the name of a broker, found "{broker}"')
        return None
    try:
        topic = parse_template(fleet.topic, known, ()).text
    except TopicError as error:
        at.wrong("topic", str(error))
        return None
    if not config.model and not fleet.configuration:
        at.warn("topic", "has no effect: there is no [model.NAME] that could be announced")
    link = links[broker]
    filters = [f"{topic}/model/+", *([f"{topic}/configuration"] if fleet.configuration else [])]
    own = replace(
        link,
        name="fleet",
        client_id=f"{link.client_id}-fleet",
        session_expiry_s=0,
        status_topic="",
        max_packet=PACKET,
        outbox_items=16,
        outbox_bytes=4 * PACKET,
        subscriptions=tuple(Subscription(one, retain_handling=KEPT_ALWAYS) for one in filters),
    )
    max_bytes = fleet.max_bytes or min(GIB, max(PACKET, machine.disk_free // 10))
    return FleetPlan(
        own,
        topic,
        fleet.signed_by,
        fleet.from_,
        fleet.ca,
        fleet.bandwidth,
        max_bytes,
        fleet.configuration,
        fleet.guard,
    )
