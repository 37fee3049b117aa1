"""Cipher: AES-256-GCM, HKDF and scrypt. The one importer of `cryptography`.

It is imported when a value or a key is first sealed or opened, so that who only lists a vault, or
looks at a namespace that has one, does not load it.
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt


def encrypt(key: bytes, nonce: bytes, plain: bytes, bound: bytes) -> bytes:
    """Encrypt and authenticate (RFC 5116), together with what it is bound to."""
    return AESGCM(key).encrypt(nonce, plain, bound)


def decrypt(key: bytes, nonce: bytes, sealed: bytes, bound: bytes) -> bytes | None:
    """Decrypt; None when this is not the key, or anything was changed."""
    try:
        return AESGCM(key).decrypt(nonce, sealed, bound)
    except (InvalidTag, ValueError):
        return None


def derive(raw: bytes, label: bytes, size: int) -> bytes:
    """Derive a key of its own for a label (RFC 5869)."""
    return HKDF(SHA256(), size, None, label).derive(raw)


def stretch(text: bytes, salt: bytes, size: int, *, n: int, r: int, p: int) -> bytes:
    """Make a key of a passphrase (RFC 7914). Raises MemoryError."""
    return Scrypt(salt, size, n, r, p).derive(text)
