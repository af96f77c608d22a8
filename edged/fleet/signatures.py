"""Ed25519: the only importer of `cryptography`, which is the extra `edged[fleet]`."""

from __future__ import annotations

import base64
import re
from typing import Any

DOMAIN = b"edged fleet 1\n"
"""Stands before what is signed, so that a signature made for something else means nothing here."""
_PEM = re.compile(rb"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)


class BadKey(ValueError):
    """A file holds no key that can be used; the text says why."""


def public_keys(pem: bytes) -> list[Any]:
    """All public Ed25519 keys of a file. Raises BadKey."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    found = []
    for block in _PEM.findall(pem):
        try:
            key = load_pem_public_key(block)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise BadKey(f"expected public Ed25519 keys in PEM form: {error}") from None
        if not isinstance(key, Ed25519PublicKey):
            raise BadKey("expected public Ed25519 keys, found another kind; make one with edged fleet key")
        found.append(key)
    if not found:
        secret = b"PRIVATE KEY" in pem
        raise BadKey(
            "it is a private key, which belongs on no device; write the public one"
            if secret
            else "expected public Ed25519 keys in PEM form (-----BEGIN PUBLIC KEY-----), found none"
        )
    return found


def is_signed(keys: list[Any], text: str, signature: str) -> bool:
    """Whether one of the keys made this signature (base64) of the text."""
    from cryptography.exceptions import InvalidSignature

    try:
        raw = base64.b64decode(signature, validate=True)
    except ValueError:
        return False
    for key in keys:
        try:
            key.verify(raw, DOMAIN + text.encode())
        except InvalidSignature:
            continue
        return True
    return False


def sign(private_pem: bytes, text: str) -> str:
    """The signature of a text, as base64. Raises BadKey."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(private_pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadKey(f"expected a private Ed25519 key in PEM form: {error}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise BadKey("expected a private Ed25519 key, found another kind")
    return base64.b64encode(key.sign(DOMAIN + text.encode())).decode()


def make_key() -> tuple[bytes, bytes]:
    """A new pair: the private and the public key, as PEM."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
