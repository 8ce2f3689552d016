"""The fused forms for training against the plain ones."""

import torch
from torch.nn import functional as F

from atarilens.agents.networks import RecurrentActorCritic, initialise
from compendium.training import fused


def test_elu_and_its_gradient_equal_torchs_in_bfloat16():
    generator = torch.Generator().manual_seed(0)
    x = 4 * torch.randn(8, 32, 10, 10, generator=generator)
    x.view(-1)[:4] = torch.tensor([0.0, -0.0, -200.0, 200.0])
    x = x.bfloat16().to(memory_format=torch.channels_last)
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    results = [fused._ELU.apply(inputs[0] * 1), F.elu(inputs[1] * 1)]
    torch.testing.assert_close(results[0], results[1], atol=2e-3, rtol=8e-3)
    for result in results:
        result.float().square().sum().backward()
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, atol=1e-2, rtol=1.6e-2)


def test_lstm_and_its_gradients_equal_torchs_cell():
    generator = torch.Generator().manual_seed(1)
    cell = torch.nn.LSTMCell(7, 5)
    inputs = torch.randn(6, 3, 7, generator=generator)
    memory = torch.randn(2, 3, 5, generator=generator)
    keep = (torch.rand(6, 3, 1, generator=generator) > 0.3).float()
    weights = torch.randn(6, 3, 5, generator=generator)
    found = []
    for fuse in (True, False):
        cell.zero_grad()
        x, h, c = inputs.clone().requires_grad_(), *memory.clone().requires_grad_()
        leaves = [x, h.retain_grad() or h, c.retain_grad() or c]
        if fuse:
            gates = F.linear(x, cell.weight_ih, cell.bias_ih + cell.bias_hh)
            hidden, h, c = fused._LSTM.apply(gates, cell.weight_hh, h, c, keep)
        else:
            steps = []
            for t in range(6):
                h, c = cell(x[t], (h * keep[t], c * keep[t]))
                steps.append(h)
            hidden = torch.stack(steps)
        ((hidden * weights).sum() + (c**2).sum() + h.sum()).backward()
        gradients = [leaf.grad for leaf in leaves] + [p.grad.clone() for p in cell.parameters()]
        found.append([hidden, h, c, *gradients])
    for ours, torchs in zip(*found, strict=True):
        torch.testing.assert_close(ours, torchs, atol=1e-5, rtol=1e-5)


def test_fused_unroll_equals_the_networks_own_up_to_bfloat16():
    network = initialise(RecurrentActorCritic(4), 3).to(memory_format=torch.channels_last)
    generator = torch.Generator().manual_seed(0)
    observations = torch.rand(5, 30, 1, 80, 80, generator=generator)
    memory = torch.randn(30, 2, 256, generator=generator)
    starts = torch.rand(5, 30, generator=generator) < 0.3
    found = []
    for unroll in (fused.unroll, RecurrentActorCritic.unroll):
        network.zero_grad()
        hidden, last = unroll(network, observations, memory, starts)
        logits, value = network.heads(hidden)
        (logits[..., 1].sum() + value.sum()).backward()
        found.append((hidden, last, [p.grad.clone() for p in network.parameters()]))
    for index in range(2):
        torch.testing.assert_close(found[0][index], found[1][index], atol=0.02, rtol=0.02)
    for ours, exact in zip(found[0][2], found[1][2], strict=True):
        assert F.cosine_similarity(ours.flatten(), exact.flatten(), dim=0) > 0.999
