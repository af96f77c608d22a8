"""The fixtures of a daemon that is assembled and opens nothing."""

from tests.support.assembled import clock, make

__all__ = ["clock", "make"]
