"""Joins several streams into rows of one: a row for each sample of the pace stream, or on a regular grid.

joined streams --> Track, one a stream: the latest samples of each key --+
pace stream or grid --> Waiting, until the others' next samples came ----+--> Aligner: whole rows
"""

from edged.pipeline.align.plan import AlignPlan, AlignSource

__all__ = ["AlignPlan", "AlignSource"]
