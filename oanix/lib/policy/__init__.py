"""Policy: rules about what may be asked of the web, and where a connection may go. Pure, no I/O."""

from oanix.lib.policy.addresses import Grant, known_addresses, refuse_address
from oanix.lib.policy.limits import Limits
from oanix.lib.policy.pattern import Destination, Pattern, PatternError
from oanix.lib.policy.policy import Layer, Policy, Verdict
from oanix.lib.policy.rate import Buckets, Rate
from oanix.lib.policy.rules import Ask, PolicyError, Rule, Rules

__all__ = [
    "Ask",
    "Buckets",
    "Destination",
    "Grant",
    "Layer",
    "Limits",
    "Pattern",
    "PatternError",
    "Policy",
    "PolicyError",
    "Rate",
    "Rule",
    "Rules",
    "Verdict",
    "known_addresses",
    "refuse_address",
]
