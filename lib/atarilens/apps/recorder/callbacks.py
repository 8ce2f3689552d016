"""The recorder in two training loops: our own, and that of Stable-Baselines3."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils.tensorboard import SummaryWriter

from atarilens.agents import Agent, agent_from_module
from atarilens.apps.recorder.episode import FLUSH
from atarilens.apps.recorder.loop import AgentRecorder
from atarilens.play.rollouts import rollout


def training_callback(
    logdir: str | Path, game: str, every: int = 100, *, seed: int = 0, steps: int = 240
) -> Callable[[int, torch.nn.Module, dict], None]:
    """Make a callback of `training.ppo.train` that writes its curves and, now and then, a game.

    Args:
        logdir: for `tensorboard --logdir`.
        game: key of `games.GAMES`.
        every: updates between two games; the first game follows the first update.
        seed: of every game, so that all stages of training begin alike: tick an early and a late
            run in TensorBoard to see them side by side.
        steps: agent steps of a game; a longer game is cut off, and its folder ends in "-excerpt".

    Returns:
        `callback(step, network, metrics)`. It plays and explains with a copy of the network, on
        the CPU and in float32.
    """
    recorder = AgentRecorder(logdir, every=1)
    writer = SummaryWriter(str(Path(logdir) / "training"), flush_secs=FLUSH)
    calls = 0

    def callback(step: int, network: torch.nn.Module, metrics: dict) -> None:
        nonlocal calls
        for name, number in metrics.items():
            if isinstance(number, int | float):
                writer.add_scalar(f"training/{name}", number, step)
        if calls % every == 0:
            name = f"{game} at {step:,} steps"
            agent = agent_from_module(network, game=game, preprocessing="luma80", name=name)
            record_episode(recorder, agent, seed, steps, step)
        calls += 1
        writer.flush()

    return callback


def record_episode(recorder: AgentRecorder, agent: Agent, seed: int, steps: int, step: int) -> None:
    """Record one game of at most so many steps; an agent with Q-values plays greedily."""
    recorder.network, recorder.name, recorder.region = agent.network, agent.name, agent.region
    recorder.action_meanings = agent.action_meanings
    play = rollout(agent, seed=seed, max_steps=steps, greedy=agent.network.q_values)
    length = int((play.episode == 0).sum())
    for t in range(length):
        recorder.update(
            play.observations[t],
            play.actions[t],
            play.rewards[t],
            bool(play.terminated[t] or play.truncated[t]),
            frame=play.frames[t],
            memory=play.memory[t],
            value=None if play.values is None else play.values[t],
            step=step,
        )
    recorder.interrupt("excerpt")


def sb3_callback(logdir: str | Path, **settings):
    """Make a callback for `model.learn(callback=...)` of Stable-Baselines3 (PPO, A2C, DQN).

    It records the observations and rewards of the first environment, as the algorithm gets them.
    The screens are those of `env.render()`, if the render mode is "rgb_array".

    Args:
        logdir: for `tensorboard --logdir`; may be the folder of the model's own log.
        **settings: of `AgentRecorder`, except the network. The names of the actions are the
            environment's `action_meanings`, if it has them.
    """
    from stable_baselines3.common.callbacks import BaseCallback

    class RecorderCallback(BaseCallback):
        """Hand every step of the first environment to an `AgentRecorder`."""

        def _on_training_start(self) -> None:
            env = self.training_env
            self.renders = env.render_mode == "rgb_array"
            if env.has_attr("action_meanings"):
                settings.setdefault("action_meanings", env.get_attr("action_meanings", [0])[0])
            self.recorder = AgentRecorder(logdir, PolicyNetwork(self.model.policy), **settings)
            self._see()

        def _see(self) -> None:
            """Keep the screen of the next decision, because its step replaces the screen."""
            wanted = self.renders and self.recorder.recording
            self.screen = self.training_env.env_method("render", indices=[0])[0] if wanted else None

        def _on_step(self) -> bool:
            observation = self.locals.get("obs_tensor", self.model._last_obs)  # before the step
            done = bool(self.locals["dones"][0])
            self.recorder.update(
                observation[0],
                self.locals["actions"][0],
                self.locals["rewards"][0],
                done,
                frame=self.screen,
                step=self.num_timesteps,
            )
            self._see()
            return True

        def _on_training_end(self) -> None:
            self.recorder.close()

    return RecorderCallback()


class PolicyNetwork(torch.nn.Module):
    """A policy of Stable-Baselines3 in training, as a network of our protocol.

    Args:
        policy: an ActorCriticPolicy, or a DQNPolicy: its logits are Q-values, its value their
            maximum. Not copied. Observations are in the units of its environment.
    """

    def __init__(self, policy: torch.nn.Module):
        super().__init__()
        self.policy = policy

    def _heads(self, observation):
        """Return what the actor and the critic read, `[B, D]` each."""
        policy = self.policy
        if hasattr(policy, "q_net"):
            features = policy.q_net.extract_features(observation, policy.q_net.features_extractor)
            return features, features
        features = policy.extract_features(observation)
        actor, critic = features if isinstance(features, tuple) else (features, features)
        extractor = policy.mlp_extractor
        return extractor.forward_actor(actor), extractor.forward_critic(critic)

    def features(self, observation, memory):
        """Return the actor's last hidden layer `[B, D]`."""
        return self._heads(observation)[0]

    def forward(self, observation, memory):
        """Return action_logits `[B, A]`, value `[B]` and the memory as it was."""
        actor, critic = self._heads(observation)
        if hasattr(self.policy, "q_net"):
            q_values = self.policy.q_net.q_net(actor)
            return q_values, q_values.max(1).values, memory
        return self.policy.action_net(actor), self.policy.value_net(critic).squeeze(-1), memory
