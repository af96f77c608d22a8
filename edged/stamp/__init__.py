"""Decoded rows become blocks: each row gets its time and its key, each refused one a reason.

keys     which key has which id
clocks   the three ways a row gets its time: by arrival, by its own UTC stamp, by the sensor's own counter
stamper  puts them together
"""

from edged.stamp.keys import UNFIT, KeyTable
from edged.stamp.stamper import Stamper

__all__ = ["UNFIT", "KeyTable", "Stamper"]
