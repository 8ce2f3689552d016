"""Explain one decision of an agent: pure functions of (network, observation, memory).

A network is a callable `(observation [B, C, H, W], memory [B, k, M]) -> (action_logits [B, A],
value [B] or None, memory [B, k, M])`. Nothing here knows games, environments, agents or files.
"""

from .jacobian import jacobian_saliency
from .maps import SaliencyMaps, upsample
from .masks import gaussian_mask, perturb
from .memory import MemorySaliency, memory_saliency
from .objects import ObjectAttention, attention_by_object
from .perturbation import perturbation_saliency

__all__ = [
    "MemorySaliency",
    "ObjectAttention",
    "SaliencyMaps",
    "attention_by_object",
    "gaussian_mask",
    "jacobian_saliency",
    "memory_saliency",
    "perturb",
    "perturbation_saliency",
    "upsample",
]
