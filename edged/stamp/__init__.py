"""Decoded rows become blocks: each row gets its time and its key, each refused one a reason.

keys     which key has which id
clocks   the three ways a row gets its time: by arrival, by its own UTC stamp, by the sensor's own counter
thinning which samples are taken, where not all are
lateness which samples wait for others, to leave in the order of their times
stamper  puts them together
"""

from edged.stamp.keys import UNFIT, KeyTable
from edged.stamp.lateness import Lateness
from edged.stamp.stamper import Stamper
from edged.stamp.thinning import THINNED, Thinning

__all__ = ["THINNED", "UNFIT", "KeyTable", "Lateness", "Stamper", "Thinning"]
