from __future__ import annotations

from edged.results.entities import BINARY_CLASSES, CLASS_OF_UNIT, COUNTING, SENSOR_CLASSES, measured
from edged.results.fields import ResultField


def test_units_say_of_which_class_a_number_is() -> None:
    kwh = measured(ResultField("values.e", ("values", "e"), "number", "kWh"))
    assert (kwh.component, kwh.device_class) == ("sensor", "energy")
    assert measured(ResultField("values.x", ("values", "x"), "number", "%")).device_class is None
    assert measured(ResultField("score", ("score",), "number")).device_class is None


def test_classes_are_known_and_once() -> None:
    assert {*CLASS_OF_UNIT.values(), *COUNTING} <= {*SENSOR_CLASSES}
    for classes in (SENSOR_CLASSES, BINARY_CLASSES):
        assert len({*classes}) == len(classes)
