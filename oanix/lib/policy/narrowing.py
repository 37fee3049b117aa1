"""Narrowing: what a namespace adds to a policy, kept among its `layers`.

A namespace keeps a tuple of layers under the policy itself. It only grows, and a fork inherits it:
so a child can forbid itself more, and never take back what was forbidden to it.
"""

from collections.abc import Hashable, Mapping, MutableMapping

from oanix.lib.policy.policy import Layer, Policy


def narrowings(policy: Policy, kept: Mapping[Hashable, object]) -> tuple[Layer, ...]:
    """Give the layers that a namespace adds; kept: its `layers`."""
    found = kept.get(policy, ())
    return found if isinstance(found, tuple) else ()


def narrow(policy: Policy, kept: MutableMapping[Hashable, object], layer: Layer) -> None:
    """Add a layer that must allow, too."""
    kept[policy] = (*narrowings(policy, kept), layer)
