"""Vault: secrets that are used and never shown, encrypted at rest.

keys      the data key, and how it is kept: by a passphrase or the OS keyring (ring)
rows      the tables
rules     what a secret is bound to, and how it is sent (template)
forms     how a value may appear in an answer, and mask, which takes it out
vault     all of it together: use, never a value
"""

from oanix.lib.vault.info import (
    DAMAGED,
    EMPTY,
    LOCKED,
    UNBOUND,
    USABLE,
    SecretInfo,
)
from oanix.lib.vault.keys import KEYRING, PASSPHRASE, Cost, Kept, Key, Passphrase
from oanix.lib.vault.mask import Mask, MaskStream
from oanix.lib.vault.names import VALUE_LONGEST, check_name, check_value
from oanix.lib.vault.ring import Backend, RingKey, system_keyring
from oanix.lib.vault.rules import SecretRule
from oanix.lib.vault.template import Headers, Template
from oanix.lib.vault.vault import FILE, Attached, Vault

__all__ = [
    "DAMAGED",
    "EMPTY",
    "FILE",
    "KEYRING",
    "LOCKED",
    "PASSPHRASE",
    "UNBOUND",
    "USABLE",
    "VALUE_LONGEST",
    "Attached",
    "Backend",
    "Cost",
    "Headers",
    "Kept",
    "Key",
    "Mask",
    "MaskStream",
    "Passphrase",
    "RingKey",
    "SecretInfo",
    "SecretRule",
    "Template",
    "Vault",
    "check_name",
    "check_value",
    "system_keyring",
]
