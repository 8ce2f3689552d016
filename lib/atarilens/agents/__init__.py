"""Agents: networks, the preprocessing of their observations, and the files that hold them."""

from atarilens.agents.agent import Agent, agent_from_module
from atarilens.agents.files import list_agents, load_agent, save_agent, untrained_control
from atarilens.agents.networks import NatureNetwork, Network, RecurrentActorCritic, initialise
from atarilens.agents.preprocessing import Preprocessing, preprocessing
from atarilens.agents.registry import NETWORKS, build_network

__all__ = [
    "NETWORKS",
    "Agent",
    "NatureNetwork",
    "Network",
    "Preprocessing",
    "RecurrentActorCritic",
    "agent_from_module",
    "build_network",
    "initialise",
    "list_agents",
    "load_agent",
    "preprocessing",
    "save_agent",
    "untrained_control",
]
