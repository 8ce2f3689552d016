"""What all tests share: no network, one thread, an untrained agent, and a stretch of its play."""

import os
import sys
from pathlib import Path

import pytest
import torch

LOOPBACK = ("127.0.0.1", "::1", "localhost", None)


def refuse_network(event: str, arguments: tuple) -> None:
    """Raise where the process is about to leave this machine."""
    if event == "socket.connect":
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else None  # a path: a local socket
    elif event == "socket.getaddrinfo":
        host = arguments[0]
    else:
        return
    if host not in LOOPBACK:
        raise RuntimeError(f"a test reached for the network: {host}")


sys.addaudithook(refuse_network)
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def reference() -> Path:
    """Folder of the reference data; its sibling `agents` holds published checkpoints."""
    folder = os.environ.get("ATARILENS_REFERENCE")
    if not folder:
        pytest.skip("the variable ATARILENS_REFERENCE does not name the reference data")
    return Path(folder)


@pytest.fixture(scope="session")
def untrained_agent():
    """The paper's network for Pong, re-created from its seed; no file is read."""
    from atarilens import load_agent

    return load_agent("untrained-pong")


@pytest.fixture(scope="session")
def short_trajectory(untrained_agent):
    """Twelve steps of the untrained agent. Nothing may write into it."""
    from atarilens import rollout

    return rollout(untrained_agent, seed=3, max_steps=12)
