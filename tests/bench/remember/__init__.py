"""The process is set up as the daemon's is, before `__main__` imports numpy and onnxruntime."""

from edged.system import process

process.set_up()
