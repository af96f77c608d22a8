"""Checks of Modbus sources: registers, and what a bus can carry."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from edged.config.checks.decode import fill_fields
from edged.config.convert import Finish, Raw, Rule, Wrong
from edged.config.ports import is_contradicted
from edged.config.schema import Decode, FieldSpec, ModbusDecode, ModbusSource, Table
from edged.notation.widths import is_packed
from edged.notation.words import duration, shown

BITS = ("coil", "discrete")
MANUAL = {3: "input", 4: "holding"}
"""The first of five digits with which manuals number registers, from 1."""
MAX_REGISTERS = 125


def format_of_registers(table: ModbusDecode, raw: Raw) -> Wrong:
    if "format" in raw:
        yield "format", 'has no effect with type = "modbus", which says how registers are written; remove it', "key"


def registers(table: Decode, raw: Raw) -> Wrong:
    if table.format != "modbus":
        return
    for i, (spec, own) in enumerate(zip(table.fields, given_fields(raw), strict=True)):
        at = f"fields[{i}]"
        if spec.name == "_":
            yield at, '"_" skips what stands between fields; registers are named, so leave it out'
            continue
        if spec.register is None:
            yield f"{at}.register", "required: the address on the wire, from 0", "table"
            continue
        base, number = divmod(spec.register, 10000)
        if base in MANUAL and number and not ({"table"} & {*own, *raw}):
            text = f"{spec.register} is written as in manuals; on the wire that is register = {number - 1} with table = "
            yield f"{at}.register", f'{text}"{MANUAL[base]}"; if it is the address on the wire, write its table'
        is_bit = (spec.table or table.table) in BITS
        dtype = spec.dtype or table.dtype
        if is_bit and dtype not in (None, "bool"):
            key = f"{at}.dtype" if spec.dtype is not None else "dtype"
            yield key, f'a {spec.table or table.table} is one bit, so its type is "bool", found {shown(dtype)}'
        elif not is_bit and (dtype in ("bool", "int8", "uint8", "int24", "uint24") or is_packed(dtype or "")):
            key = f"{at}.dtype" if spec.dtype is not None else "dtype"
            yield key, f'a register has 16 bits: expected such as "uint16" or "float32", found {shown(dtype)}; one bit: bits'
        elif not is_bit and words_of(dtype, spec.shape) > MAX_REGISTERS:
            yield at, f"takes {words_of(dtype, spec.shape)} registers, and one request at most {MAX_REGISTERS}"
        if spec.name == "address":
            yield at, '"address" is the key that tells units apart; give the field another name'


def given_fields(raw: Raw) -> list[Any]:
    """The tables of fields as they stand in the file."""
    fields = raw.get("fields", [])
    return [one if isinstance(one, dict) else {} for one in (fields if isinstance(fields, list) else [fields])]


def words_of(dtype: str | None, shape: tuple[int, ...]) -> int:
    """Registers that a value takes."""
    count = 1
    for axis in shape:
        count *= axis
    bits = int("".join(c for c in dtype or "uint16" if c.isdigit()))
    return max(1, bits // 16) * count


def fill_registers(table: Decode, raw: Raw) -> Decode:
    """Fields as `fill_fields` leaves them; registers with their table, their type, and Modbus' order of bytes."""
    table = fill_fields(table, raw)
    if table.format != "modbus":
        return table

    def filled(spec: FieldSpec) -> FieldSpec:
        which = spec.table or "holding"
        return msgspec.structs.replace(spec, table=which, dtype=spec.dtype or ("bool" if which in BITS else "uint16"))

    endian = table.endian if "endian" in raw else "big"
    return msgspec.structs.replace(table, endian=endian, fields=tuple(map(filled, table.fields)))


def addresses(table: ModbusSource, raw: Raw) -> Wrong:
    for one, count in Counter(table.address).items():
        if count > 1:
            yield "address", f"{one} is listed {count} times"


def pace(table: ModbusSource, raw: Raw) -> Wrong:
    if is_contradicted(table):
        assert table.rate is not None
        text = f'{table.rate:g} per second contradicts every = "{duration(table.every)}": this source is asked once in that time'
        yield "rate", f"{text}; remove rate"


RULES: dict[type[Table], tuple[Rule, ...]] = {
    ModbusDecode: (Rule((), format_of_registers),),
    ModbusSource: (Rule(("address",), addresses), Rule(("rate", "every"), pace)),
}
DECODE_RULES: tuple[Rule, ...] = (Rule(("format", "fields", "dtype", "table"), registers),)
"""Of `decode` of any source: a recording of a bus is played with the same table."""
FINISH: dict[type[Table], Finish] = {Decode: fill_registers}
