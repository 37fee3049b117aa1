"""Info: what a relay says of itself (NIP-11)."""

import re
from typing import Final

from oanix.lib.nostr import encode
from oanix.lib.nostr.nip19 import pubkey_of
from oanix.services.relay.core import Core
from oanix.services.relay.files import SETTINGS
from oanix.services.relay.messages import SUBSCRIPTION_MAX

NIPS: Final = (1, 9, 11, 13, 17, 40, 42, 45, 50, 59, 62, 65, 67, 70, 77, 86)
"""What docs/nips.md lists with its tests."""

NAME: Final = "An OANIX relay"

TEXT_MAX: Final = 4_096

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


def check_setting(name: str, value: str) -> str:
    """Give a setting as it is kept. Raises Invalid, ValueError."""
    if name == "pubkey":
        return pubkey_of(value) if value else ""
    if len(value) > TEXT_MAX or _CONTROL.search(value):
        raise ValueError(f"{name} is one line of at most {TEXT_MAX} characters")
    return value


def document(core: Core, version: str) -> bytes:
    """Write the document, as it is now. Raises OSError."""
    settings = core.settings()
    limits, policy = core.limits, core.policy
    said: dict[str, object] = {"name": NAME}
    said |= {name: settings[name] for name in SETTINGS if name in settings}
    said |= {
        "supported_nips": list(NIPS),
        "version": version,
        "limitation": {
            "max_message_length": limits.message,
            "max_subscriptions": limits.subscriptions,
            "max_limit": limits.results,
            "default_limit": limits.results,
            "max_subid_length": SUBSCRIPTION_MAX,
            "max_event_tags": limits.tags,
            "max_content_length": limits.content,
            "min_pow_difficulty": policy.least_work,
            "auth_required": policy.needs_auth(),
            "payment_required": False,
            "restricted_writes": policy.restricts("write"),
            "created_at_upper_limit": limits.future_s,
        },
    }
    return encode(said)
