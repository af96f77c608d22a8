from __future__ import annotations

import copy
import pickle

from edged.notation.values import Secret


def test_a_secret_shows_itself_to_nobody_but_who_asks() -> None:
    secret = Secret("hunter2")
    assert (secret.reveal(), secret.encode(), type(secret.reveal())) == ("hunter2", b"hunter2", str)
    for seen in (repr(secret), str(secret), f"{secret}", f"{secret!r}", f"{secret:>20}", repr([secret])):
        assert "hunter2" not in seen
    assert copy.copy(secret) == pickle.loads(pickle.dumps(secret)) == secret
