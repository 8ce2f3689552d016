"""Maps from gradients of one action's score and of the value, most of them through Captum."""

from contextlib import contextmanager

import numpy as np
import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from atarilens.saliency.calling import device_of, untouched
from atarilens.saliency.jacobian import jacobian_saliency
from atarilens.saliency.methods.scores import baseline_image, collect, score_function

RELUS = (F.relu, F.relu_, torch.relu, torch.relu_, torch.Tensor.relu, torch.Tensor.relu_)


@contextmanager
def random_state_kept(seed: int, device: torch.device):
    """Draw from a seed of torch's global generator, as Captum does, and restore its state."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _explain(network, observation, memory, action, output, sign, attribute):
    """Attribute the scores of each decision to its pixels, one head at a time.

    Args:
        network: see `atarilens.saliency`.
        observation: `[T, C, H, W]`.
        memory: `[T, k, M]`.
        action: `[T]`.
        output: see `score_function`.
        sign: see `collect`.
        attribute: (scores, x `[1, C, H, W]`, head) -> attributions `[1, C, H, W]`.
    """
    device, decisions = device_of(network), []
    with untouched(network), torch.enable_grad():
        for x, entering, chosen in zip(observation, memory, action, strict=True):
            x = x[None].to(device).clone().requires_grad_()
            scores = score_function(network, entering[None].to(device), int(chosen), output)
            with torch.no_grad():
                heads = scores(x).shape[1]
            found = [attribute(scores, x, head) for head in range(heads)]
            decisions.append([each.detach().cpu().numpy()[0] for each in found])
    return collect(decisions, sign)


def jacobian(network, observation, memory, action):
    """Squared gradient; of the logits weighted by themselves if no action is given."""
    if action is None:
        return jacobian_saliency(network, observation, memory)

    def squared(scores, x, head):
        return torch.autograd.grad(scores(x)[:, head].sum(), x)[0].square()

    return _explain(network, observation, memory, action, "logit", "signed", squared)


def gradient_x_input(network, observation, memory, action, *, output="logit", sign="absolute"):
    """Gradient times pixel."""
    from captum.attr import InputXGradient

    def attribute(scores, x, head):
        return InputXGradient(scores).attribute(x, target=head)

    return _explain(network, observation, memory, action, output, sign, attribute)


def integrated_gradients(
    network,
    observation,
    memory,
    action,
    *,
    steps: int = 50,
    baseline="background",
    output="logit",
    sign="absolute",
):
    """Gradients summed along the straight way from a baseline to the observation."""
    from captum.attr import IntegratedGradients

    def attribute(scores, x, head):
        start = torch.from_numpy(baseline_image(x[0].detach().cpu(), baseline)).to(x)[None]
        explained = IntegratedGradients(scores)
        return explained.attribute(x, start, head, n_steps=steps, internal_batch_size=32)

    return _explain(network, observation, memory, action, output, sign, attribute)


def smoothgrad(
    network,
    observation,
    memory,
    action,
    *,
    samples: int = 20,
    noise: float = 0.1,
    seed: int = 0,
    output="logit",
    sign="absolute",
):
    """Mean gradient over noisy copies of the observation."""
    from captum.attr import NoiseTunnel, Saliency

    def attribute(scores, x, head):
        with random_state_kept(seed, x.device):
            return NoiseTunnel(Saliency(scores)).attribute(
                x, nt_samples=samples, stdevs=noise, target=head, abs=False
            )

    return _explain(network, observation, memory, action, output, sign, attribute)


def grad_cam(network, observation, memory, action, *, layer: str | None = None, output="logit"):
    """Channels of a convolution, weighted by their mean gradients; where the sum is positive."""
    from captum.attr import LayerGradCam

    chosen, before = _convolution(network, layer)

    def attribute(scores, x, head):
        explained = LayerGradCam(scores, chosen)
        grid = explained.attribute(x, head, relu_attributions=True).detach().cpu().numpy()
        return torch.from_numpy(_through_centres(grid, x.shape[-2:], before))

    return _explain(network, observation, memory, action, output, "signed", attribute)


def _convolution(network, layer: str | None):
    """Return the convolution of a name (default: the last one) and those up to and with it.

    Convolutions inside of attention modules are left out: they weigh places and hold no features.
    """
    found = {
        name: each
        for name, each in getattr(network, "named_modules", dict)()
        if isinstance(each, torch.nn.Conv2d) and not f".{name}".count(".attention")
    }
    if not found:
        raise ValueError("method 'grad-cam' needs a convolution, the network has none")
    layer = layer or list(found)[-1]
    if layer not in found:
        raise ValueError(f"layer is {layer!r}, expected one of {', '.join(found)}")
    names = list(found)
    return found[layer], [found[name] for name in names[: names.index(layer) + 1]]


def _through_centres(grid: np.ndarray, shape, convolutions) -> np.ndarray:
    """Interpolate `[..., n, m]` bilinearly, exactly through the centres of the units' fields."""
    for axis, size in ((-2, shape[0]), (-1, shape[1])):
        centre, jump = 0.0, 1.0  # of the first unit, in px, and between two of them
        for each in convolutions:
            index = axis + 2
            reach = each.dilation[index] * (each.kernel_size[index] - 1) / 2
            centre += jump * (0 if each.padding == "same" else reach - each.padding[index])
            jump *= each.stride[index]
        centres = centre + jump * np.arange(grid.shape[axis])
        units = np.eye(len(centres))
        weights = np.stack([np.interp(np.arange(size), centres, unit) for unit in units], 1)
        grid = np.moveaxis(np.moveaxis(grid, axis, -1) @ weights.T, -1, axis)
    return grid


class _GuidedReLU(torch.autograd.Function):
    """ReLU whose backward pass lets only positive gradients through."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient.clamp(min=0) * (x > 0)


class _Guided(TorchFunctionMode):
    """Replace every ReLU that runs inside, whether a module or a function calls it."""

    seen = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in RELUS:
            self.seen += 1
            return _GuidedReLU.apply(args[0])
        return function(*args, **(kwargs or {}))


def guided_backprop(network, observation, memory, action, *, output="logit", sign="absolute"):
    """Gradient in which every ReLU lets only positive gradients through.

    Captum's version sees ReLU modules only and silently returns the plain gradient of a network
    that calls the function, as ours do: this one sees both.
    """

    def attribute(scores, x, head):
        with _Guided() as guided:
            score = scores(x)[:, head].sum()
        if not guided.seen:
            raise ValueError(
                "method 'guided-backprop' is defined for networks with ReLU units; "
                "this network has none"
            )
        return torch.autograd.grad(score, x)[0]

    return _explain(network, observation, memory, action, output, sign, attribute)
