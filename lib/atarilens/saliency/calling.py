"""Call any network without leaving a trace in it."""

import inspect
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import numpy as np
import torch

_threads = threading.Lock()
_thread_users = [0, 0]  # how many calls are inside `one_torch_thread`, and the number to restore


def device_of(network) -> torch.device:
    """Return where the network's parameters lie; the CPU if it has none."""
    parameters = getattr(network, "parameters", tuple)()
    return next((parameter.device for parameter in parameters), torch.device("cpu"))


def as_batch(network, observation, memory) -> tuple[torch.Tensor, torch.Tensor, bool]:
    """Check one decision, or T of them, and give them a batch axis.

    Args:
        network: see `atarilens.saliency`. If it has `observation_shape` and `memory_shape`, the
            arrays must have these shapes.
        observation: `[C, H, W]` or `[T, C, H, W]`, floating point, array or tensor, in [0, 1]; a
            value outside of this range causes a warning.
        memory: `[k, M]` or `[T, k, M]`; None for a network without one.

    Returns:
        observation `[T, C, H, W]` float32, memory `[T, k, M]` float32, both detached on the CPU,
        and whether one decision was given.

    Raises:
        ValueError: if a shape, a dtype or a value is not as described.
    """
    for parameter in getattr(network, "parameters", tuple)():
        if parameter.is_floating_point() and parameter.dtype != torch.float32:
            raise ValueError(f"network is {parameter.dtype}, expected torch.float32: use .float()")
    observation = _tensor(observation, "observation")
    if observation.ndim not in (3, 4):
        raise ValueError(
            f"observation has shape {tuple(observation.shape)}, expected [C, H, W] or [T, C, H, W]"
        )
    if 0 in observation.shape:
        raise ValueError(
            f"observation has shape {tuple(observation.shape)}: no decision to explain"
        )
    single = observation.ndim == 3
    expected = getattr(network, "observation_shape", None)
    if expected is not None and tuple(observation.shape[-3:]) != tuple(expected):
        raise ValueError(
            f"observation has shape {tuple(observation.shape)}, "
            f"expected {tuple(expected)} per decision"
        )
    low, high = (float(end) + 0.0 for end in observation.aminmax())  # no negative zero
    if low < 0 or high > 1:
        warnings.warn(
            f"observation holds values from {low:.3g} to {high:.3g}, expected [0, 1]: divide grey "
            "levels by 255, unless this network was trained on such values",
            UserWarning,
            stacklevel=3,
        )
    shape = (0, 0) if takes_observation_alone(network) else getattr(network, "memory_shape", None)
    count = () if single else (len(observation),)
    if memory is None:
        if shape is not None and 0 not in tuple(shape):
            raise ValueError(f"memory is None, expected {tuple(shape)} per decision")
        memory = torch.zeros(*count, *(shape or (0, 0)))
    memory = _tensor(memory, "memory")
    if memory.ndim != observation.ndim - 1 or memory.shape[:-2] != torch.Size(count):
        raise ValueError(
            f"memory has shape {tuple(memory.shape)}, "
            f"expected {'[k, M]' if single else f'[{count[0]}, k, M]'}"
        )
    if shape is not None and tuple(memory.shape[-2:]) != tuple(shape):
        raise ValueError(
            f"memory has shape {tuple(memory.shape)}, expected {tuple(shape)} per decision"
        )
    if single:
        observation, memory = observation[None], memory[None]
    return observation, memory, single


def _tensor(values, name: str) -> torch.Tensor:
    """Return a float32 tensor on the CPU, detached, sharing storage where it can."""
    tensor = values if isinstance(values, torch.Tensor) else torch.as_tensor(np.asarray(values))
    if not tensor.is_floating_point():
        raise ValueError(f"{name} is {tensor.dtype}, expected floating point")
    tensor = tensor.detach().to("cpu", torch.float32)
    if tensor.numel() and not torch.stack(tensor.aminmax()).isfinite().all():  # NaN passes through
        raise ValueError(f"{name} holds values that are not finite")
    return tensor


def takes_observation_alone(network) -> bool:
    """Say whether this is a plain module or function, called as `network(observation)`."""
    try:
        signature = inspect.signature(getattr(network, "forward", network))
    except (TypeError, ValueError):  # of a compiled function nothing is known
        return False
    try:
        signature.bind(None, None)
    except TypeError:
        return True
    return False


def arguments(function, observation, memory) -> tuple:
    """Return the arguments of a network, or of its `features`: memory only if it takes it."""
    return (observation,) if takes_observation_alone(function) else (observation, memory)


def call_network(network, observation: torch.Tensor, memory: torch.Tensor):
    """Call a network of either kind; see `atarilens.saliency`.

    Args:
        network: as `perturbation_saliency` takes it.
        observation: `[B, C, H, W]`.
        memory: `[B, k, M]`; a plain module does not get it.

    Returns:
        action_logits `[B, A]`, value `[B]` or None, and the memory `[B, k, M]` of the next step.

    Raises:
        ValueError: if the network returns something else.
    """
    alone = takes_observation_alone(network)
    returned = network(*arguments(network, observation, memory))
    parts = returned if isinstance(returned, tuple) else (returned,)
    if alone:
        parts = {1: (*parts, None, memory), 2: (*parts, memory)}.get(len(parts), ())
    if len(parts) == 3:
        logits, value, memory = parts
        count = len(observation)
        if getattr(logits, "ndim", 0) == 2 and len(logits) == count:
            if value is None:
                return logits, None, memory
            if getattr(value, "shape", None) in ((count,), (count, 1)):
                return logits, value.reshape(count), memory
    expected = (
        "logits [B, A] or a tuple (logits, value [B]), being called as network(observation)"
        if alone
        else "a tuple (logits [B, A], value [B] or None, memory), being called as "
        "network(observation, memory); a module without memory takes the observation alone"
    )
    raise ValueError(f"the network returned {_described(returned)}, expected {expected}")


def _described(outputs) -> str:
    """Describe what a network returned: by shapes, or by the names of types."""
    if isinstance(outputs, tuple | list):
        return f"a {type(outputs).__name__} ({', '.join(map(_described, outputs))})"
    shape = getattr(outputs, "shape", None)
    return type(outputs).__name__ if shape is None else str(list(shape))


def network_outputs(network, observation, memory, *, batch: int = 32):
    """Run a network over decisions, some at a time, without leaving a trace in it.

    Args:
        network: see `atarilens.saliency`.
        observation: `[T, C, H, W]` float32, of `as_batch`.
        memory: `[T, k, M]` float32, entering the steps; one decision's `[1, k, M]` serves all.
        batch: decisions per forward pass; changes speed and memory only.

    Returns:
        action_logits `[T, A]` and value `[T]` (None without one), float32 arrays.
    """
    device, logits, values = device_of(network), [], []
    with untouched(network), torch.no_grad():
        for start in range(0, len(observation), batch):
            shown = observation[start : start + batch].to(device)
            entering = memory if len(memory) == 1 else memory[start : start + batch]
            entering = entering.expand(len(shown), *entering.shape[1:]).to(device)
            action_logits, value, _ = call_network(network, shown, entering)
            logits.append(action_logits.cpu())
            values.append(None if value is None else value.cpu())
    found = None if values[0] is None else torch.cat(values).numpy()
    return torch.cat(logits).numpy(), found


def has_parts(network) -> bool:
    """Say whether a network offers `encode`, `recur` and `heads`, so that callers may share work.

    `network(observation, memory)` then equals, up to rounding, `after = recur(encode(observation),
    memory)` and `heads(after[:, 0])`.
    """
    return all(callable(getattr(network, part, None)) for part in ("encode", "recur", "heads"))


@contextmanager
def untouched(network):
    """Run the network in eval mode and plain float32, then restore every mode and setting."""
    modes = [(module, module.training) for module in getattr(network, "modules", tuple)()]
    switches = (
        torch.backends.cuda.matmul,
        torch.backends.cudnn.conv,
        torch.backends.cudnn.rnn,
        torch.backends.mkldnn.matmul,
        torch.backends.mkldnn.conv,
        torch.backends.mkldnn.rnn,
    )
    precisions = [switch.fp32_precision for switch in switches]
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        for device in {"cpu", device_of(network).type}:
            stack.enter_context(torch.autocast(device, enabled=False))
        try:
            for switch in switches:
                switch.fp32_precision = "ieee"
            for module, training in modes:
                if training:
                    module.training = False
            yield
        finally:
            for module, training in modes:
                module.training = training
            for switch, precision in zip(switches, precisions, strict=True):
                switch.fp32_precision = precision


@contextmanager
def one_torch_thread():
    """Give every torch operation one thread, so that results do not depend on the machine."""
    with _threads:
        if _thread_users[0] == 0:
            _thread_users[1] = torch.get_num_threads()
        _thread_users[0] += 1
    torch.set_num_threads(1)
    try:
        yield
    finally:
        with _threads:
            _thread_users[0] -= 1
            torch.set_num_threads(_thread_users[1])


def torch_threads() -> int:
    """Return the number of threads that torch had before `one_torch_thread`."""
    with _threads:
        return _thread_users[1] if _thread_users[0] else torch.get_num_threads()


def run_on_threads(work, units, threads: int) -> None:
    """Do the units of work, each with one torch thread, on this thread alone if threads is 1."""
    if min(threads, len(units)) == 1:
        for unit in units:
            work(unit)
        return

    def quiet(unit) -> None:
        torch.set_num_threads(1)
        with torch.no_grad():  # a mode of the thread, not of the process
            work(unit)

    with ThreadPoolExecutor(min(threads, len(units))) as pool:
        for _ in pool.map(quiet, units):  # raises what a unit raised
            pass
