"""edged: sensors in over serial and MQTT, ONNX Runtime, results out over MQTT, within a fixed memory budget."""

__version__ = "0.1.0"
