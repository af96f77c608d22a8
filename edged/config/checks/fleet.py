"""Checks of models that come over MQTT."""

from __future__ import annotations

import importlib.util

from edged.config.convert import Raw, Rule, Wrong
from edged.config.schema import Fleet, Guard, Table


def signed(table: Fleet, raw: Raw) -> Wrong:
    if importlib.util.find_spec("cryptography") is None:
        yield "signed_by", 'needs cryptography, which is not installed; pip install "edged[fleet]"'
        return
    try:
        pem = table.signed_by.read_bytes()
    except OSError as error:
        yield "signed_by", f"{table.signed_by} cannot be read: {(error.strerror or 'unknown error').lower()}"
        return
    if b"PRIVATE KEY" in pem:
        yield "signed_by", "it is a private key, which belongs on no device; write the file of the public one"
    elif b"-----BEGIN PUBLIC KEY-----" not in pem:
        yield "signed_by", "expected public Ed25519 keys in PEM form (-----BEGIN PUBLIC KEY-----); make some with edged fleet key"


def guards_something(table: Fleet, raw: Raw) -> Wrong:
    if "guard" in raw and not table.configuration:
        yield "guard", "has no effect without configuration = true; that of a model is model.NAME.guard", "key"


def judges_something(table: Guard, raw: Raw) -> Wrong:
    if table.not_finite is None and table.slower is None and not table.failing:
        yield "for", "has no effect: nothing is judged; set not_finite, slower or failing"


RULES: dict[type[Table], tuple[Rule, ...]] = {
    Fleet: (Rule(("signed_by",), signed), Rule(("guard", "configuration"), guards_something)),
    Guard: (Rule(("for", "not_finite", "slower", "failing"), judges_something),),
}
