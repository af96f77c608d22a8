from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import numpy as np

from edged import records
from edged.records import NONE, Block, Message, Receipt


def block(**more: Any) -> Block:
    settings: dict[str, Any] = {"keys": np.array([0, 1, 0], np.int32), "restarts": (1,), **more}
    return Block(np.arange(3.0)[:, None], np.arange(3, dtype=np.int64), 7, 11, **settings)


def test_a_part_keeps_what_belongs_to_its_rows() -> None:
    receipts = [Receipt(n) for n in range(3)]
    whole = block(receipts=receipts, degraded=np.array([False, True, False]))
    first, rest = whole.part(0, 1), whole.part(1, 3)
    assert (first.values.tolist(), rest.values.tolist()) == ([[0.0]], [[1.0], [2.0]])
    assert (first.restarts, rest.restarts) == ((1,), ())
    assert list(rest.receipts) == receipts[1:]
    assert rest.degraded is not None
    assert rest.degraded.tolist() == [True, False]
    assert (rest.offset, rest.arrival, len(rest)) == (7, 11, 2)


def test_one_key_and_one_receipt_stand_for_all_rows() -> None:
    receipt = Receipt(1)
    part = block(keys=4, receipts=(receipt,)).part(1, 3)
    assert part.keys == 4
    assert part.receipt_of_each() == [receipt, receipt]


def test_a_receipt_is_owed_until_nobody_holds_it() -> None:
    receipt = Receipt(2)
    receipt.hold()
    receipt.done()
    assert receipt.owed == 1
    NONE.done()
    assert NONE.owed == 1


def test_a_message_lets_go_of_its_receipt_once() -> None:
    receipt = Receipt(1)
    message = Message(b"t", b"body", receipt=receipt)
    message.let_go()
    message.let_go()
    assert receipt.owed == 0
    assert message.size > len(b"tbody")


DATACLASSES = {
    "behaviours/plan.py: BehaviourPlan",
    "model/onnx_file.py: OnnxFile",
    "model/remote/records.py: RemotePlan",
    "model/runner.py: Counts",
    "model/store.py: Copy",
    "mqtt/settings.py: LinkCounts",
    "spool/log.py: Log",
}
"""Those of which a field has no part in comparisons, and those in which is counted."""


def test_records_are_structs() -> None:
    """As the first lines of edged/records.py say: each dataclass costs a start half a millisecond."""
    root = Path(records.__file__).parent
    found, without_slots = set(), []
    for file in root.rglob("*.py"):
        if "dataclass" not in (text := file.read_text("utf-8")):
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef):
                name = f"{file.relative_to(root).as_posix()}: {node.name}"
                kinds = [kind for d in node.decorator_list if (kind := ast.unparse(d)).startswith("dataclass")]
                found |= {name for _ in kinds}
                without_slots += [name for kind in kinds if "slots" not in kind]
    assert found == DATACLASSES
    assert without_slots == []
