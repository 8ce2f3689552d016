"""Every kind of map behind one signature: `saliency_maps(method, network, observation, memory)`."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, fields

import joblib
import numpy as np
from tqdm.auto import tqdm

from atarilens.saliency.attention import attention_saliency
from atarilens.saliency.calling import as_batch, one_torch_thread
from atarilens.saliency.maps import SaliencyMaps
from atarilens.saliency.methods import controls, gradients, removal
from atarilens.saliency.methods.scores import baseline_image, likeliest_actions, score_function
from atarilens.saliency.perturbation import perturbation_saliency

__all__ = ["METHODS", "Method", "baseline_image", "saliency_maps", "score_function"]

FRAMES_PER_CHUNK = 8  # fixed, so that results do not depend on who computes which chunk


@dataclass(frozen=True)
class Method:
    """One kind of map.

    Attributes:
        kind: "removal", "gradient", "built-in", or "control" (it does not use the network).
        explains: "policy" (all actions together), "action" (one of them), or "nothing".
        passes: observations that go through the network per decision, for both heads, at the
            default settings on an 80 x 80 observation; choosing the action takes one of them.
        reference: where the method was described.
        compute: (network, observation `[T, C, H, W]`, memory, action `[T]` or None, **options).
    """

    kind: str
    explains: str
    passes: int
    reference: str
    compute: Callable = field(repr=False)


def _perturbation(network, observation, memory, action, **options):
    return perturbation_saliency(network, observation, memory, **options)


def _attention(network, observation, memory, action, **options):
    return attention_saliency(network, observation, memory, **options)


METHODS = {
    "perturbation": Method(
        "removal", "policy", 257, "Greydanus et al. (2018), arXiv:1711.00138", _perturbation
    ),
    "action-perturbation": Method(
        "removal",
        "action",
        258,
        "Huber, Limmer and André (2022), arXiv:2101.07312: their repair of the noise-based method",
        removal.action_perturbation,
    ),
    "sarfa": Method(
        "removal", "action", 258, "Puri et al. (2020), arXiv:1912.12191", removal.sarfa
    ),
    "occlusion": Method(
        "removal", "action", 258, "Zeiler and Fergus (2014), arXiv:1311.2901", removal.occlusion
    ),
    "feature-ablation": Method(
        "removal",
        "action",
        102,
        "Captum: Kokhlikyan et al. (2020), arXiv:2009.07896",
        removal.feature_ablation,
    ),
    "lime": Method(
        "removal",
        "action",
        501,
        "Ribeiro, Singh and Guestrin (2016), arXiv:1602.04938",
        removal.lime,
    ),
    "rise": Method(
        "removal", "action", 1001, "Petsiuk, Das and Saenko (2018), arXiv:1806.07421", removal.rise
    ),
    "jacobian": Method(
        "gradient",
        "policy",
        1,
        "Simonyan et al. (2014), arXiv:1312.6034; Greydanus et al. (2018), arXiv:1711.00138",
        gradients.jacobian,
    ),
    "gradient-x-input": Method(
        "gradient",
        "action",
        4,
        "Shrikumar et al. (2016), arXiv:1605.01713",
        gradients.gradient_x_input,
    ),
    "integrated-gradients": Method(
        "gradient",
        "action",
        102,
        "Sundararajan, Taly and Yan (2017), arXiv:1703.01365",
        gradients.integrated_gradients,
    ),
    "smoothgrad": Method(
        "gradient", "action", 42, "Smilkov et al. (2017), arXiv:1706.03825", gradients.smoothgrad
    ),
    "grad-cam": Method(
        "gradient", "action", 4, "Selvaraju et al. (2017), arXiv:1610.02391", gradients.grad_cam
    ),
    "guided-backprop": Method(
        "gradient",
        "action",
        4,
        "Springenberg et al. (2015), arXiv:1412.6806",
        gradients.guided_backprop,
    ),
    "attention": Method(
        "built-in", "policy", 1, "Nikulin et al. (2019), arXiv:1908.02511", _attention
    ),
    "centre": Method("control", "nothing", 0, "a centre prior", controls.centre),
    "edges": Method("control", "nothing", 0, "Sobel's edge detector", controls.edges),
    "random": Method("control", "nothing", 0, "uniform noise", controls.random),
    "image-change": Method(
        "control", "nothing", 0, "the perturbation map of no network", controls.image_change
    ),
}


SOURCES = {"perturbation": perturbation_saliency, "attention": attention_saliency}  # of options


def saliency_maps(
    method: str,
    network,
    observation,
    memory=None,
    *,
    action=None,
    progress: bool = False,
    **options,
) -> SaliencyMaps:
    """Explain decisions with any method of `METHODS`.

    The actor's map says which pixels matter to the score of one action (for methods that explain
    the policy: to all actions together), the critic's which matter to the value. Units differ
    between methods, so compare ranks or shares, never sizes. Memory, parameters, gradients, modes
    and random state of the network are left as they were.

    Options that several methods share: `output` ("logit", "probability" or "advantage": the score
    of the action), `sign` ("absolute", "positive" or "signed"; see `SaliencyMaps`, whose maps are
    never negative unless "signed" is asked for), and `baseline` (what a removed pixel shows:
    "background", "black", "blur", "noise", a number or an image `[C, H, W]`).
    Deviation: the default baseline is the median colour of the observation, because black, which
    the literature removes with, is a new object on Pong's brown ground.

    Args:
        method: a name in `METHODS`.
        network: see `atarilens.saliency`. For a Q-network the logits are the Q-values.
        observation: `[C, H, W]` or `[T, C, H, W]`, in [0, 1], as preprocessed for this agent.
        memory: `[k, M]` or `[T, k, M]`, entering the step; None for a network without memory.
        action: index of the action to explain, or one for each decision; None explains the
            likeliest one.
        progress: show a bar over decisions. They are computed in chunks of 8 through
            `joblib.Parallel`, as in `perturbation_saliency`.
        **options: of the method; a wrong name raises an error that lists them.

    Returns:
        Maps `[H, W]` or `[T, H, W]`; the critic's is None if the network has no value or the
        method has no map of its own for it (SARFA, attention). A control returns its map for both
        heads.

    Raises:
        ValueError: if the method, an option or a shape is not as described, or the method is not
            defined for this network.
        ImportError: if the method needs Captum and it is not installed.
    """
    if method not in METHODS:
        raise ValueError(f"method is {method!r}, expected one of {', '.join(METHODS)}")
    entry = METHODS[method]
    _check_options(method, SOURCES.get(method, entry.compute), options)
    observation, memory, single = as_batch(network, observation, memory)
    if entry.explains == "action" or (method == "jacobian" and action is not None):
        action = likeliest_actions(network, observation, memory, action)
    elif entry.explains == "policy" and action is not None:
        raise ValueError(
            f"method {method!r} explains all actions together, received action {action!r}; "
            "'action-perturbation' explains one"
        )
    else:
        action = None
    # A copy per chunk: a view would send all decisions to each worker.
    jobs = (
        joblib.delayed(_compute)(
            entry.compute,
            network,
            observation[start : start + FRAMES_PER_CHUNK].clone(),
            memory[start : start + FRAMES_PER_CHUNK].clone(),
            None if action is None else action[start : start + FRAMES_PER_CHUNK],
            options,
        )
        for start in range(0, len(observation), FRAMES_PER_CHUNK)
    )
    parts = []
    with tqdm(total=len(observation), unit="frame", disable=not progress) as bar:
        for part in joblib.Parallel(return_as="generator", pre_dispatch="2*n_jobs")(jobs):
            parts.append(part)
            bar.update(len(part))
    maps = SaliencyMaps(*(_joined(parts, each.name) for each in fields(SaliencyMaps)))
    return maps[0] if single else maps


def _compute(compute, network, observation, memory, action, options) -> SaliencyMaps:
    """Explain one chunk of decisions: one unit of work for joblib."""
    with one_torch_thread():
        return compute(network, observation, memory, action, **options)


def _joined(parts, name: str):
    found = [getattr(part, name) for part in parts]
    return None if found[0] is None else np.concatenate(found)


def _check_options(method: str, compute: Callable, options: dict) -> None:
    """Raise if a method does not have an option."""
    known = [
        name
        for name, parameter in inspect.signature(compute).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name not in ("progress", "outputs")
    ]
    wrong = [name for name in options if name not in known]
    if wrong:
        raise ValueError(
            f"method {method!r} has no option {wrong[0]!r}; "
            f"its options: {', '.join(known) or 'none'}"
        )
