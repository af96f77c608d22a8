import numpy as np

from edged.records import Reject, Rows
from edged.sources.counts import SourceCounts, stamped
from edged.stamp import KeyTable, Stamper


def test_the_ledger_holds_over_what_decoder_and_stamper_refuse() -> None:
    counts = SourceCounts("s")
    stamper = Stamper("unix_s", None, KeyTable(1, None))
    values = np.zeros((3, 1), np.float32)
    rows = Rows(values, np.array([5, 4, 6]), [("a",), ("a",), ("b",)], rejects=[Reject("short", "2 columns")])
    block = stamped(rows, stamper, counts, 100, 0, is_synced=False)
    assert block is not None
    assert len(block) == 1
    assert (counts.read, counts.rows, counts.rejected) == (4, 1, 3)
    assert counts.drops.by_reason == {"short": 1, "too_many_keys": 1, "late": 1}
    assert counts.balance() == 0
    assert stamped(Rows(values[:0], rejects=[Reject("long", "")]), stamper, counts, 100, 0, is_synced=False) is None
    assert counts.balance() == 0
