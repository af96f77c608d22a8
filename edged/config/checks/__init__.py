"""What must hold between the keys of one table, one file a kind of table.

`RULES` says for each table which keys depend on one another and the function that looks at them. It gets the converted
table and the plain one, so that it can tell a key that was given from a default. `FINISH` fills in what follows from other keys.
What needs a model, a size or the captures of several topics is the plan's to check.
"""

from __future__ import annotations

from edged.config.checks import behaviour, broker, decode, fleet, http, modbus, model, pipeline, result, source
from edged.config.convert import Finish, Rule
from edged.config.schema import Decode, Table

RULES: dict[type[Table], tuple[Rule, ...]] = {
    **broker.RULES,
    **fleet.RULES,
    **http.RULES,
    **source.RULES,
    **decode.RULES,
    Decode: (*decode.RULES[Decode], *modbus.DECODE_RULES),
    **modbus.RULES,
    **model.RULES,
    **result.RULES,
    **pipeline.RULES,
    **behaviour.RULES,
}
FINISH: dict[type[Table], Finish] = {**source.FINISH, **modbus.FINISH}
