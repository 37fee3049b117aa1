"""Agents: what a kind of agent says of itself, what it is asked, and where kinds are kept."""

from oanix.lib.agents.arguments import Argument, read_input, usage
from oanix.lib.agents.manifest import MANIFEST_MAX, Manifest, Need, parse_manifest
from oanix.lib.agents.names import check_kind
from oanix.lib.agents.store import Installed, KindStore

__all__ = [
    "MANIFEST_MAX",
    "Argument",
    "Installed",
    "KindStore",
    "Manifest",
    "Need",
    "check_kind",
    "parse_manifest",
    "read_input",
    "usage",
]
