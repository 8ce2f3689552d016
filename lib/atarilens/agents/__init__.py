"""Agents: networks, what they read of the screen, and the files that hold them."""

from atarilens.agents.files import Agent, agent_from_module, list_agents, load_agent, save_agent
from atarilens.agents.networks import NatureNetwork, RecurrentActorCritic, initialise
from atarilens.agents.preprocessing import Preprocessing, preprocessing

__all__ = [
    "Agent",
    "NatureNetwork",
    "Preprocessing",
    "RecurrentActorCritic",
    "agent_from_module",
    "initialise",
    "list_agents",
    "load_agent",
    "preprocessing",
    "save_agent",
]
