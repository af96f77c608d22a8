"""What is announced to Home Assistant, as plain values: pure functions of the plan and of the name of a key.

    PREFIX/device/ID/config    one device with all its entities, retained; empty: it is no longer there

This daemon is a device with what health says of it and the results that have no key; each key is a device behind it. An ID is
made of device.id, the source and the key, and an entity's of that, the pipeline and the field: whatever people call them, and
however Home Assistant renames them, they stay what they are.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from edged import __version__
from edged.plan.records import HomeAssistantPlan, Plan, ShownPlan
from edged.results.entities import COUNTING, Entity
from edged.topics import TopicError

Key = tuple[str, ...]
Component = dict[str, Any]

_PLAIN = re.compile(r"[A-Za-z0-9-]+")
_UNFIT = re.compile(r"[^A-Za-z0-9_-]")
ORIGIN = {"name": "edged", "sw_version": __version__}
ALL = {"availability_mode": "all"}
STATUS = "{{ 'online' if value == 'online' else 'offline' }}"
"""Home Assistant takes no notice of a third word, such as `stopped`."""
SUM = (
    "{{% set all = namespace(n=0) %}}{{% for one in value_json.{kind}.values() %}}"
    "{{% set all.n = all.n + {of} %}}{{% endfor %}}{{{{ all.n }}}}"
)


def device_id(*parts: str) -> str:
    """A name that may stand in a discovery topic, another one for other parts."""
    plain = _UNFIT.sub("_", "_".join(parts))
    if all(_PLAIN.fullmatch(part) for part in parts):
        return f"edged_{plain}"
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:8]
    return f"edged_{plain[:64]}_{digest}"


def main_id(plan: Plan) -> str:
    return device_id(plan.device)


def key_id(plan: Plan, source: str, key: Key) -> str:
    return device_id(plan.device, source, *key)


def config_topic(shown: HomeAssistantPlan, id: str) -> str:
    return f"{shown.prefix}/device/{id}/config"


def main_device(plan: Plan, shown: HomeAssistantPlan) -> dict[str, Any]:
    """This daemon, with the results that have no key."""
    id = main_id(plan)
    has_health = shown.broker in plan.health_brokers
    components = _diagnostics(plan, id, has_health)
    for name, one in shown.shown.items():
        if not one.source:
            components |= _components(plan, shown, name, one, id, (), frozenset())
    device = {"identifiers": [id], "name": plan.device, "manufacturer": "edged", "sw_version": __version__}
    return {"device": device, "origin": ORIGIN, "components": components}


def key_device(plan: Plan, shown: HomeAssistantPlan, source: str, key: Key, judged: Collection[str] = ()) -> dict[str, Any]:
    """A key of a source. `judged` are the sources that say of this key whether it lives; the others say it of themselves."""
    id = key_id(plan, source, key)
    components: dict[str, Component] = {}
    label = None
    for name, one in shown.shown.items():
        if one.source == source:
            components |= _components(plan, shown, name, one, id, key, judged)
            about = dict(one.about).get("/".join(key))
            label = label or (about.label if about is not None else None)
    device = {
        "identifiers": [id],
        "name": label or f"{source} {'/'.join(key)}",
        "manufacturer": "edged",
        "via_device": main_id(plan),
    }
    return {"device": device, "origin": ORIGIN, "components": components}


def without(payload: dict[str, Any], gone: Mapping[str, str]) -> dict[str, Any]:
    """With the components that are no longer there, by what they were: Home Assistant removes what has only its platform."""
    tombs = {id: {"platform": platform} for id, platform in gone.items() if id not in payload["components"]}
    return {**payload, "components": {**payload["components"], **tombs}}


def platforms(payload: dict[str, Any]) -> dict[str, str]:
    """What its components are."""
    return {id: one["platform"] for id, one in payload["components"].items()}


def key_components(shown: HomeAssistantPlan, source: str) -> dict[str, str]:
    """The same of any key of a source."""
    mine = ((name, one) for name, one in shown.shown.items() if one.source == source)
    return {f"{name}.{e.field.name}": e.component for name, one in mine for e in one.entities}


def _components(
    plan: Plan, shown: HomeAssistantPlan, name: str, one: ShownPlan, id: str, key: Key, judged: Collection[str]
) -> dict[str, Component]:
    """The entities of a pipeline, of one key if it has any. None of a key whose topic no broker takes."""
    values = {**dict(zip(one.keys, key, strict=True)), "key": "/".join(key)}
    try:
        topic = one.publish.topic.fill(values)
    except TopicError:
        return {}
    availability = _availability(plan, shown, one.roots, key, judged)
    common = {"state_topic": topic, **({"expire_after": one.expire_after_s} if one.expire_after_s is not None else {})}
    common |= {"icon": one.icon} if one.icon is not None else {}
    return {
        f"{name}.{entity.field.name}": {
            **_entity(entity, one),
            "unique_id": f"{id}.{name}.{entity.field.name}",
            **common,
            **availability,
        }
        for entity in one.entities
    }


def _entity(entity: Entity, one: ShownPlan) -> Component:
    field = entity.field
    is_text = one.publish.settings.format == "text"
    value = "value" if is_text else "value_json" + "".join(f"[{json.dumps(part, ensure_ascii=False)}]" for part in field.path)
    said: Component = {"platform": entity.component, "name": one.called(entity)}
    if entity.device_class is not None:
        said["device_class"] = entity.device_class
    if entity.component == "binary_sensor":
        is_on = "value == 'true'" if is_text else value
        return {**said, "value_template": f"{{{{ 'ON' if {is_on} else 'OFF' }}}}"}
    if field.kind == "number":
        said["state_class"] = "total" if entity.device_class in COUNTING else "measurement"
        said |= {"unit_of_measurement": field.unit} if field.unit else {}
        said |= {"suggested_display_precision": entity.decimals} if entity.decimals is not None else {}
    elif entity.options:
        said["options"] = list(entity.options)
    else:
        value = f"({value} | string)[:255]"  # Home Assistant's most
    return {**said, "value_template": f"{{{{ {value} }}}}"}


def _availability(
    plan: Plan, shown: HomeAssistantPlan, roots: Iterable[str], key: Key, judged: Collection[str]
) -> dict[str, Any]:
    """It is there while this daemon is, and each sensor that it is made of."""
    topics = [_status(plan)]
    if shown.broker in plan.health_brokers:
        for root in roots:
            parts = key if root in judged and plan.sources[root].key_names else ()
            topics.append({"topic": "/".join((plan.base_topic, "source", root, *parts))})
    return {"availability": topics, **ALL}


def _status(plan: Plan) -> dict[str, str]:
    return {"topic": f"{plan.base_topic}/status", "value_template": STATUS}


def _diagnostics(plan: Plan, id: str, has_health: bool) -> dict[str, Component]:
    """What edged says of itself. Whether it runs is said also when it does not."""
    running = {
        "platform": "binary_sensor",
        "name": "Running",
        "device_class": "running",
        "state_topic": f"{plan.base_topic}/status",
        "value_template": "{{ 'ON' if value == 'online' else 'OFF' }}",
    }
    found: dict[str, Component] = {"running": running}
    if has_health:
        found |= {name: {**one, "state_topic": f"{plan.base_topic}/health"} for name, one in _HEALTH.items()}
        found |= {
            f"source/{name}": {
                "platform": "binary_sensor",
                "name": f"Source {name}",
                "device_class": "connectivity",
                "state_topic": f"{plan.base_topic}/source/{name}",
                "payload_on": "online",
                "payload_off": "offline",
            }
            for name in plan.sources
        }
    for name, one in found.items():
        one |= {"unique_id": f"{id}.{name}", "entity_category": "diagnostic"}
        if name != "running":
            one |= {"availability": [_status(plan)]}
    return found


def _count(template: str, icon: str, name: str) -> Component:
    return {"platform": "sensor", "name": name, "state_class": "total_increasing", "icon": icon, "value_template": template}


_HEALTH: Mapping[str, Component] = {
    "health": {
        "platform": "binary_sensor",
        "name": "Health",
        "device_class": "problem",
        "value_template": "{{ 'OFF' if value_json.state == 'healthy' else 'ON' }}",
    },
    "memory": {
        "platform": "sensor",
        "name": "Memory",
        "device_class": "data_size",
        "state_class": "measurement",
        "unit_of_measurement": "MiB",
        "suggested_display_precision": 0,
        "value_template": "{{ value_json.memory.resident_mib }}",
    },
    "results": _count(SUM.format(kind="pipelines", of="one.published"), "mdi:counter", "Results"),
    "dropped": _count(SUM.format(kind="pipelines", of="one.dropped.values() | sum"), "mdi:tray-remove", "Results dropped"),
    "rejected": _count(SUM.format(kind="sources", of="one.rejected"), "mdi:close-circle-outline", "Inputs rejected"),
}
