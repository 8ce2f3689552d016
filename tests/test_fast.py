"""The fast CPU path gives what PyTorch gives, whatever the threads, or steps aside."""

import os
import resource
import subprocess
import sys

import joblib
import numpy as np
import pytest
import torch
from distributed import Client, LocalCluster
from torch import nn

from atarilens.agents.networks import RecurrentActorCritic, initialise
from atarilens.saliency import fast, perturbation_saliency
from atarilens.saliency.fast import kernels


@pytest.fixture(params=["lstm", "gru"])
def network(request):
    return lively(request.param)


def lively(cell, actions=5):
    network = initialise(RecurrentActorCritic(actions, cell), seed=1).eval()
    with torch.no_grad():
        network.actor_linear.weight.mul_(100)
        getattr(network, cell).weight_ih.mul_(3)
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                parameter.copy_(torch.linspace(-0.3, 0.2, len(parameter)))
    return network


def moments(network, count, seed=0):
    """Blocks on a constant background, as a screen has them, and memories."""
    generator = np.random.default_rng(seed)
    observations = np.full((count, 1, 80, 80), 0.3, np.float32)
    for observation in observations:
        for top, left in generator.integers(0, 76, (4, 2)):
            observation[0, top : top + 4, left : left + 6] = generator.random()
    memory = generator.uniform(-1, 1, (count, *network.memory_shape)).astype(np.float32)
    return observations, memory


def assert_equal(maps, expected, tolerance=1e-4):
    for grid in ("actor_grid", "critic_grid"):
        one, other = getattr(maps, grid), getattr(expected, grid)
        assert one.shape == other.shape
        for t in range(len(one)):
            assert other[t].max() > 1e-6
            assert np.abs(one[t] - other[t]).max() <= tolerance * other[t].max()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"stride": 7, "mask_sigma": 3.0, "blur_sigma": 2.0},
        {"stride": 16, "mask_sigma": 12.0, "centred": True},
        {"stride": 9, "threads": 2},
    ],
)
def test_equals_torch(network, settings):
    observations, memory = moments(network, 3)
    expected = perturbation_saliency(network, observations, memory, method="torch", **settings)
    maps = perturbation_saliency(network, observations, memory, method="fast", **settings)
    assert_equal(maps, expected)


def test_busy_picture_equals_torch(network):
    observations = np.random.default_rng(0).random((2, 1, 80, 80), dtype=np.float32)
    memory = moments(network, 2)[1]
    expected = perturbation_saliency(network, observations, memory, method="torch", stride=9)
    maps = perturbation_saliency(network, observations, memory, method="fast", stride=9)
    assert_equal(maps, expected)


def test_where_the_blur_changes_nothing_the_score_is_zero(network):
    observations, memory = moments(network, 1)
    observations[:] = 0.3
    observations[0, 0, 40:44, 40:46] = 0.8
    maps = perturbation_saliency(network, observations, memory, method="fast")
    assert maps.actor_grid[0, 8, 8] > 0
    assert maps.actor_grid[0, 0, 0] == 0  # 21 px of mask and 12 px of blur do not reach it
    assert maps.critic_grid[0, 0, 0] == 0


def test_threads_batches_and_company_do_not_change_a_bit(network):
    observations, memory = moments(network, 10)
    expected = perturbation_saliency(network, observations, memory, threads=1, method="fast")
    for threads in (2, 3):
        maps = perturbation_saliency(network, observations, memory, threads=threads, method="fast")
        np.testing.assert_array_equal(maps.actor_grid, expected.actor_grid)
        np.testing.assert_array_equal(maps.critic_grid, expected.critic_grid)


def test_taken_by_itself_for_the_papers_network(network):
    observations, memory = moments(network, 1)
    automatic = perturbation_saliency(network, observations, memory, stride=10)
    explicit = perturbation_saliency(network, observations, memory, stride=10, method="fast")
    np.testing.assert_array_equal(automatic.actor_grid, explicit.actor_grid)
    assert fast.supports(network)


def test_a_weight_that_changes_is_noticed(network):
    observations, memory = moments(network, 2)
    before = perturbation_saliency(network, observations, memory, stride=10, method="fast")
    for change in (
        lambda: network.conv3.weight.mul_(1.5),
        lambda: network.conv2.weight.data.mul_(2),  # not counted by PyTorch
    ):
        with torch.no_grad():
            change()
        maps = perturbation_saliency(network, observations, memory, stride=10, method="fast")
        expected = perturbation_saliency(network, observations, memory, stride=10, method="torch")
        assert_equal(maps, expected)
        assert np.abs(maps.actor_grid - before.actor_grid).max() > 1e-2 * before.actor_grid.max()


def test_other_networks_take_the_plain_path(network):
    class Lookalike(RecurrentActorCritic):
        """The same layers, used differently: only its outputs differ."""

        def encode(self, observation):
            return super().encode(observation).relu()

    observations, memory = moments(network, 2)
    hooked = lively(network.cell)
    hooked.conv1.register_forward_hook(lambda module, inputs, output: output * 2)
    strided = lively(network.cell)
    strided.conv2 = nn.Conv2d(32, 32, 3, stride=2, padding=1, padding_mode="circular")
    scaled = lively(network.cell)
    scaled.temperature = nn.Parameter(torch.ones(()))
    others = [Lookalike(5, network.cell), hooked, strided, scaled]
    others[0].load_state_dict(network.state_dict())
    for other in others:
        other.eval()
        automatic = perturbation_saliency(other, observations, memory, stride=20)
        plain = perturbation_saliency(other, observations, memory, stride=20, method="torch")
        np.testing.assert_array_equal(automatic.actor_grid, plain.actor_grid)
        with pytest.raises(ValueError, match="method 'fast' needs the paper's network on a CPU"):
            perturbation_saliency(other, observations, memory, stride=20, method="fast")


def test_the_papers_network_is_recognised_by_its_layers_not_by_its_name(network):
    class Renamed(RecurrentActorCritic):
        """The paper's network under another name."""

    renamed = Renamed(5, network.cell)
    renamed.load_state_dict(network.state_dict())
    observations, memory = moments(network, 1)
    maps, expected = (
        perturbation_saliency(each, observations, memory, stride=20, method="fast")
        for each in (renamed, network)
    )
    np.testing.assert_array_equal(maps.actor_grid, expected.actor_grid)
    assert not fast.supports(nn.Linear(2, 2))
    assert not fast.supports(lambda observation, memory: None)


def test_unknown_method():
    with pytest.raises(ValueError, match="method is 'gpu', expected 'auto', 'fast' or 'torch'"):
        perturbation_saliency(None, np.zeros((1, 4, 4)), method="gpu")


def test_training_mode_and_random_state_stay(network):
    observations, memory = moments(network, 1)
    network.train()
    state = torch.get_rng_state()
    threads = torch.get_num_threads()
    perturbation_saliency(network, observations, memory, stride=20, method="fast")
    assert network.training
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert all(parameter.grad is None for parameter in network.parameters())


def test_activation_is_exact_to_float_rounding():
    inputs = np.concatenate((-np.logspace(-8, 2, 500), np.logspace(-8, 2, 500), [0.0]))
    network = lively("gru")
    with torch.no_grad():
        for layer in (network.conv1, network.conv2, network.conv3, network.conv4):
            layer.weight.zero_()
        biases = torch.tensor(np.resize(inputs, 1024), dtype=torch.float32)
        for start in range(0, 1024, 32):
            network.conv4.bias.copy_(biases[start : start + 32])
            weights = fast.pack(network)
            frames = fast._frames(
                network,
                weights,
                np.zeros((1, 80, 80), np.float32),
                torch.zeros(1, 1, 256),
                np.zeros((1, 80, 80), np.float32),
            )
            expected = nn.functional.elu(biases[start : start + 32].double()).numpy()
            np.testing.assert_allclose(frames[0].encoding[:32], expected, rtol=2e-7, atol=2e-7)


# In a process of its own: the compiler's cache, and machines without a compiler


SCRIPT = """
import sys, warnings
import numpy as np
from atarilens.agents.networks import RecurrentActorCritic, initialise
{before}
from atarilens.saliency import perturbation_saliency
network = initialise(RecurrentActorCritic(4), seed=0)
observation = np.zeros((1, 80, 80), np.float32)
observation[0, 30:40, 30:40] = 1
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    maps = perturbation_saliency(network, observation, np.zeros((2, 256)), stride=40)
assert maps.actor_grid.max() > 0
{after}
"""


def run(before="", after="", **environment):
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(before=before, after=after)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result


def test_without_numba_the_plain_path_takes_over_and_says_so():
    run(
        before="sys.modules['numba'] = None",
        after="assert 'using PyTorch' in str(caught[0].message), caught",
    )


def test_compiled_kernels_come_from_the_cache_folder():
    kernels_loaded = "from atarilens.saliency.fast import kernels\n" + "\n".join(
        f"assert kernels.{name}.stats.cache_hits, '{name} was compiled again'"
        for name in ("encode_image", "score_masks", "score_nothing")
    )
    perturbation_saliency(lively("lstm"), *(a[0] for a in moments(lively("lstm"), 1)), stride=40)
    assert not run(after=kernels_loaded).stderr  # nothing to announce


def test_cache_folder_is_the_users():
    folder = str(kernels.score_masks.stats.cache_path)
    home = os.environ.get("ATARILENS_CACHE") or os.environ.get("XDG_CACHE_HOME")
    assert folder.startswith(home or os.path.expanduser("~/.cache/atarilens/numba"))


def small_kernel():
    """A kernel that compiles in no time, decorated as the real ones are."""
    return kernels._kernel(kernels._dot.py_func)


VECTORS = np.arange(3, dtype=np.float32), np.ones(3, np.float32)


def test_damaged_cache_is_compiled_around(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ATARILENS_CACHE", str(tmp_path))
    kernels.compile_once(small_kernel(), *VECTORS)
    assert "compiling the fast path, once per machine" in capsys.readouterr().err
    loaded = small_kernel()
    kernels.compile_once(loaded, *VECTORS)
    assert loaded.stats.cache_hits
    assert not capsys.readouterr().err
    (file,) = (tmp_path / "numba").rglob("*.nbc")
    file.write_bytes(file.read_bytes()[:100])
    kernel = small_kernel()
    kernels.compile_once(kernel, *VECTORS)
    assert kernel(*VECTORS) == 3


def test_cache_folder_that_cannot_be_written_is_no_obstacle(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("a file where a folder should be")
    monkeypatch.setenv("ATARILENS_CACHE", str(blocked))
    kernel = small_kernel()
    kernels.compile_once(kernel, *VECTORS)
    assert kernel(*VECTORS) == 3


def test_kernels_that_do_not_compile_cost_a_warning_not_the_map(network, monkeypatch):
    def broken(*arguments):
        raise OSError("no code can be made here")

    monkeypatch.setattr(kernels, "compile_once", broken)
    observations, memory = moments(network, 1)
    with pytest.warns(RuntimeWarning, match="using PyTorch: no code can be made here"):
        maps = perturbation_saliency(network, observations, memory, stride=40)
    expected = perturbation_saliency(network, observations, memory, stride=40, method="torch")
    np.testing.assert_array_equal(maps.actor_grid, expected.actor_grid)
    with (
        pytest.warns(RuntimeWarning, match="using PyTorch"),
        pytest.raises(ValueError, match="method 'fast' needs kernels that compile"),
    ):
        perturbation_saliency(network, observations, memory, stride=40, method="fast")


# Whole episodes


@pytest.mark.parametrize("method", ["fast", "torch"])
def test_processes_change_no_bit(method):
    network = lively("lstm")
    observations, memory = moments(network, 20)
    settings = {"stride": 27, "method": method}
    expected = perturbation_saliency(network, observations, memory, **settings)
    with joblib.parallel_config("loky", n_jobs=2):
        maps = perturbation_saliency(network, observations, memory, **settings)
    np.testing.assert_array_equal(maps.actor, expected.actor)
    np.testing.assert_array_equal(maps.critic, expected.critic)


def test_dask_cluster_changes_no_bit():
    network = lively("lstm")
    observations, memory = moments(network, 20)
    expected = perturbation_saliency(network, observations, memory, stride=9)
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
        joblib.parallel_config("dask"),
    ):
        maps = perturbation_saliency(network, observations, memory, stride=9)
        worked = client.run(lambda: "atarilens.saliency.fast.kernels" in sys.modules)
    assert any(worked.values())  # the chunks were computed there
    np.testing.assert_array_equal(maps.actor, expected.actor)
    np.testing.assert_array_equal(maps.critic, expected.critic)
    np.testing.assert_array_equal(maps.actor_grid, expected.actor_grid)


def test_a_long_episode_needs_little_memory():
    """1,000 frames at stride 5 need under 1 GiB beyond the frames: here 64, and their share."""
    network = lively("gru")
    observations, memory = moments(network, 64)
    perturbation_saliency(network, observations[:16], memory[:16], stride=40)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    maps = perturbation_saliency(network, observations, memory, stride=40)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert (after - before) * 1024 < 64 * 2**20 + 2 * maps.actor.nbytes
