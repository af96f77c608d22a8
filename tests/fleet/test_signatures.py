"""Keys and signatures: only what one of the keys made counts, and a file without a usable key says so."""

from __future__ import annotations

import pytest

from edged.fleet.signatures import BadKey, is_signed, make_key, public_keys, sign


def test_only_the_text_that_was_signed_counts() -> None:
    private, public = make_key()
    keys = public_keys(public)
    signature = sign(private, "text")
    assert is_signed(keys, "text", signature)
    assert not is_signed(keys, "Text", signature)
    assert not is_signed(keys, "text", signature[:-4])
    assert not is_signed(keys, "text", "no base64!")
    assert not is_signed(public_keys(make_key()[1]), "text", signature)
    assert not is_signed([], "text", signature)


def test_files_without_a_key() -> None:
    private, _ = make_key()
    with pytest.raises(BadKey, match="private key"):
        public_keys(private)
    with pytest.raises(BadKey, match="found none"):
        public_keys(b"nothing")
    with pytest.raises(BadKey, match="expected public"):
        public_keys(b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
    with pytest.raises(BadKey, match="expected a private"):
        sign(b"nothing", "text")
