"""NIP-44, version 2: encryption between two keys.

A payload is the base64 of version (2), nonce (32 bytes), ciphertext (ChaCha20, RFC 8439) and MAC
(HMAC-SHA-256). The text is padded, so that its length tells little, and begins with that length:
two bytes, or for 65,536 bytes and more two zero bytes and four.
"""

import base64
import binascii
import hmac
import struct
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from oanix.lib.nostr.codec import Invalid

VERSION: Final = 2
SALT: Final = b"nip44-v2"
LONG: Final = 65_536
TEXT_MAX: Final = 2**32 - 1
PAYLOAD_MIN: Final = 132
DECODED_MIN: Final = 99
NONCE: Final = 32
MAC: Final = 32


def extract(shared: bytes) -> bytes:
    """Derive the conversation key from the shared x coordinate (HKDF-extract, RFC 5869)."""
    return hmac.digest(SALT, shared, "sha256")


def encrypt(text: str, key: bytes, nonce: bytes) -> str:
    """Encrypt a text under a conversation key; the nonce is random and used once.

    Raises Invalid for an empty text and one over 4 GiB.
    """
    try:
        padded = pad(text.encode())
    except UnicodeEncodeError:
        raise Invalid("a text holds half of a character (a lone surrogate)") from None
    cipher_key, cipher_nonce, mac_key = message_keys(key, nonce)
    sealed = _chacha(cipher_key, cipher_nonce, padded)
    mac = hmac.digest(mac_key, nonce + sealed, "sha256")
    return base64.b64encode(bytes([VERSION]) + nonce + sealed + mac).decode()


def decrypt(payload: str, key: bytes) -> str:
    """Decrypt a payload. Raises Invalid for one that was changed or is not of this key."""
    data = _decoded(payload)
    nonce, sealed, mac = data[1 : 1 + NONCE], data[1 + NONCE : -MAC], data[-MAC:]
    cipher_key, cipher_nonce, mac_key = message_keys(key, nonce)
    if not hmac.compare_digest(hmac.digest(mac_key, nonce + sealed, "sha256"), mac):
        raise Invalid("the payload was changed, or is of another key")
    try:
        return unpad(_chacha(cipher_key, cipher_nonce, sealed)).decode()
    except UnicodeDecodeError:
        raise Invalid("the text of the payload is no UTF-8") from None


def message_keys(key: bytes, nonce: bytes) -> tuple[bytes, bytes, bytes]:
    """Derive the keys of one message: cipher key, cipher nonce, MAC key (HKDF-expand)."""
    if len(key) != 32 or len(nonce) != NONCE:
        raise Invalid("a conversation key and a nonce have 32 bytes each")
    keys = HKDFExpand(SHA256(), 76, nonce).derive(key)
    return keys[:32], keys[32:44], keys[44:]


def padded_size(size: int) -> int:
    """Give the length to which a text of so many bytes is padded."""
    if size <= 32:
        return 32
    power = 1 << (size - 1).bit_length()
    chunk = 32 if power <= 256 else power // 8
    return chunk * ((size - 1) // chunk + 1)


def pad(text: bytes) -> bytes:
    """Put the length before a text, and zeros behind it."""
    size = len(text)
    if not 1 <= size <= TEXT_MAX:
        raise Invalid(f"a text has 1 to {TEXT_MAX} bytes")
    prefix = struct.pack(">H", size) if size < LONG else struct.pack(">HI", 0, size)
    return prefix + text + bytes(padded_size(size) - size)


def unpad(padded: bytes) -> bytes:
    """Take a padded text out. Raises Invalid for wrong padding."""
    size, start = struct.unpack_from(">H", padded)[0], 2
    if size == 0 and len(padded) >= 6:
        size, start = struct.unpack_from(">I", padded, 2)[0], 6
        if size < LONG:
            raise Invalid("the padding is wrong")
    text = padded[start : start + size]
    if size == 0 or len(text) != size or len(padded) != start + padded_size(size):
        raise Invalid("the padding is wrong")
    return text


def _chacha(key: bytes, nonce: bytes, data: bytes) -> bytes:
    # The library's nonce begins with the counter, which begins with 0.
    return Cipher(algorithms.ChaCha20(key, bytes(4) + nonce), None).encryptor().update(data)


def _decoded(payload: str) -> bytes:
    if payload.startswith("#"):
        raise Invalid("the payload is of a version that is not known")
    if len(payload) < PAYLOAD_MIN:
        raise Invalid("the payload is too short")
    try:
        data = base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError):
        raise Invalid("the payload is no base64") from None
    if len(data) < DECODED_MIN:
        raise Invalid("the payload is too short")
    if data[0] != VERSION:
        raise Invalid(f"the payload is of version {data[0]}, which is not known")
    return data
