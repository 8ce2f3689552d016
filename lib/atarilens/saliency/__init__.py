"""Explain one decision of an agent: pure functions of (network, observation, memory).

A network is a callable `(observation [B, C, H, W], memory [B, k, M]) -> (action_logits [B, A],
value [B] or None, memory [B, k, M])`, or a plain module without memory, `observation -> logits`
or `observation -> (logits, value)`. Observations lie in [0, 1]. A network with the methods
`encode`, `recur` and `heads` promises that calling it equals `heads(recur(encode(observation),
memory)[:, 0])`; its convolutions are then computed once for all memories of a decision.
Nothing here knows games, environments, agents or files.
"""

from atarilens.saliency.attention import attention_coverage, attention_saliency
from atarilens.saliency.jacobian import jacobian_saliency
from atarilens.saliency.maps import SaliencyMaps, upsample
from atarilens.saliency.masks import gaussian_mask, perturb
from atarilens.saliency.memory import MemorySaliency, memory_saliency
from atarilens.saliency.methods import METHODS, Method, baseline_image, saliency_maps
from atarilens.saliency.perturbation import perturbation_saliency

__all__ = [
    "METHODS",
    "MemorySaliency",
    "Method",
    "SaliencyMaps",
    "attention_coverage",
    "attention_saliency",
    "baseline_image",
    "gaussian_mask",
    "jacobian_saliency",
    "memory_saliency",
    "perturb",
    "perturbation_saliency",
    "saliency_maps",
    "upsample",
]
