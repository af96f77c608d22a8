"""What Home Assistant shows of a result: entities, the classes of its devices, and the units that these have there.

An output type says its entities beside its head (`OutputPlan.entities`); who announces them is in `health/homeassistant/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from edged.results.fields import ResultField

MAX_OPTIONS = 100
"""Labels that a sensor of labels lists; with more it is a sensor of texts."""


class Entity(NamedTuple):
    """One field of a result as a sensor. `name` stands behind that of the pipeline; empty: it is what the pipeline is about."""

    field: ResultField
    component: Literal["sensor", "binary_sensor"] = "sensor"
    name: str = ""
    device_class: str | None = None
    options: tuple[str, ...] = ()
    decimals: int | None = None


_UNITS: Mapping[str, tuple[str, ...]] = {
    "temperature": ("°C", "°F", "K"),
    "pressure": ("Pa", "hPa", "kPa", "bar", "cbar", "mbar", "mmHg", "inHg", "psi"),
    "power": ("W", "kW"),
    "energy": ("Wh", "kWh", "MWh"),
    "apparent_power": ("VA",),
    "reactive_power": ("var",),
    "voltage": ("V", "mV"),
    "current": ("A", "mA"),
    "frequency": ("Hz", "kHz", "MHz", "GHz"),
    "illuminance": ("lx",),
    "irradiance": ("W/m²",),
    "speed": ("m/s", "km/h", "mm/s", "mph", "ft/s", "in/s", "kn"),
    "distance": ("m", "km", "cm", "mm", "ft", "in", "mi", "yd"),
    "weight": ("kg", "lb", "oz"),
    "duration": ("s", "min", "h", "d", "ms"),
    "volume_flow_rate": ("m³/h", "L/min", "ft³/min", "gal/min"),
    "conductivity": ("µS/cm", "mS/cm", "S/cm"),
    "data_size": ("B", "kB", "MB", "GB", "KiB", "MiB", "GiB"),
}
"""Units that mean one class of device only. `%`, `ppm` or `g` may be several: who knows says so."""
CLASS_OF_UNIT: Mapping[str, str] = {unit: name for name, units in _UNITS.items() for unit in units}

SENSOR_CLASSES = (
    *("apparent_power", "aqi", "area", "atmospheric_pressure", "battery", "blood_glucose_concentration", "carbon_dioxide"),
    *("carbon_monoxide", "conductivity", "current", "data_rate", "data_size", "distance", "duration", "energy"),
    *("energy_storage", "frequency", "gas", "humidity", "illuminance", "irradiance", "moisture", "monetary"),
    *("nitrogen_dioxide", "nitrogen_monoxide", "nitrous_oxide", "ozone", "ph", "pm1", "pm10", "pm25", "power"),
    *("power_factor", "precipitation", "precipitation_intensity", "pressure", "reactive_power", "signal_strength"),
    *("sound_pressure", "speed", "sulphur_dioxide", "temperature", "volatile_organic_compounds"),
    *("volatile_organic_compounds_parts", "voltage", "volume", "volume_flow_rate", "volume_storage", "water", "weight"),
    "wind_speed",
)
"""Of numbers. A sensor of labels is an `enum`; texts have none."""
BINARY_CLASSES = (
    *("battery", "battery_charging", "carbon_monoxide", "cold", "connectivity", "door", "garage_door", "gas", "heat", "light"),
    *("lock", "moisture", "motion", "moving", "occupancy", "opening", "plug", "power", "presence", "problem", "running"),
    *("safety", "smoke", "sound", "tamper", "update", "vibration", "window"),
)
COUNTING = ("energy", "gas", "water", "volume", "monetary")
"""Classes of what adds up: Home Assistant takes such a sensor as a total and not as a measurement."""


def measured(field: ResultField, name: str = "", decimals: int | None = None) -> Entity:
    """A number as a sensor; its unit, where it can mean one thing only, says of which class."""
    return Entity(field, name=name, device_class=CLASS_OF_UNIT.get(field.unit or ""), decimals=decimals)
