"""AgentsFs: the kinds of agents that are installed, as files."""

from oanix.services.agents.service import AgentsFs

__all__ = ["AgentsFs"]
