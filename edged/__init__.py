"""edged: sensors in over serial and MQTT, ONNX Runtime, results out over MQTT, within a fixed memory budget."""

__version__ = "0.1.0"

from edged.behaviours.face import Behaviour, Failed, Refused, Row

__all__ = ["Behaviour", "Failed", "Refused", "Row", "__version__"]
