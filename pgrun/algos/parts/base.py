"""Base classes of all algorithms: a policy that acts and an update that learns."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Any, ClassVar, Self

import gymnasium as gym
import torch
from torch import Tensor, nn

from pgrun.algos.parts.coefficients import Coefficients
from pgrun.algos.parts.rates import check_apart, rate_name
from pgrun.algos.parts.same_network import check_same_network
from pgrun.config.ranges import Fraction, Positive
from pgrun.core.exploration import Explorer
from pgrun.data.hybrid import Hybrid
from pgrun.data.types import Carry, Obs, Transition
from pgrun.errors import UserError, WrongSpace
from pgrun.nn.encoders import Network
from pgrun.nn.heads import check_gaussian
from pgrun.nn.modes import mixes_rows, named, two_modes
from pgrun.optim.compiled import Recorded
from pgrun.optim.cuda_graphs import Graphs
from pgrun.optim.gradient_step import GradientStep, Loss
from pgrun.optim.rules import Fisher

spaces = gym.spaces


class Algorithm(Coefficients):
    """A policy and the way it is updated.

    Subclasses build their networks, call `place(device)`, then build their `GradientStep`s (they hold views of
    parameters, which must not move any more).

    An algorithm stays in evaluation mode: it acts, evaluates and computes targets in it. A gradient step puts the
    networks that it changes into training mode, only while it computes its loss.

    Raises:
        UserError: the action space is none of `action_spaces`.
    """

    action_spaces: ClassVar[tuple[type[gym.Space], ...]] = (
        spaces.Discrete,
        spaces.MultiDiscrete,
        spaces.MultiBinary,
        spaces.Box,
        Hybrid,
    )
    elsewhere: ClassVar[str] = ""  # which algorithm to use instead where it can't act
    own_steps = False  # whether it learns only from steps of its own policy; random ones would mislead it
    learns_from: ClassVar[str] = ""  # "rollouts" [T, B, ...] or single "steps" [M, ...]; empty: either will do
    policy_names: ClassVar[tuple[str, ...]] = ("model.actor.", "actor.")  # prefixes of the policy's tensors
    recurrent = False  # whether it learns from steps by a network with a memory
    compares = False  # whether it compares the policy it learns with the one that acted; both must compute the same

    def __init__(self, *, obs_space: gym.Space, action_space: gym.Space) -> None:
        super().__init__()
        if not isinstance(action_space, self.action_spaces):
            needs = " or ".join(space.__name__ for space in self.action_spaces)
            theirs = getattr(action_space, "given", None) or action_space
            says = f"{type(self).__name__} can't act in {theirs}: it needs {needs} actions"
            if isinstance(action_space, Hybrid) and spaces.Box in self.action_spaces:
                says += " (the wrapper OneBox in docs/masks-wrappers-spaces.md makes one Box of a Tuple)"
            raise WrongSpace(f"{says}; {self.elsewhere}" if self.elsewhere else says, action_space)
        self.obs_space, self.action_space = obs_space, action_space
        self.progress = 0.0  # the share of total_steps that is done; every schedule reads it
        self.device = torch.device("cpu")
        self.captured: Graphs | None = None  # what makes CUDA graphs, where the run asks for them

    def place(self, device: str | torch.device) -> None:
        """Move all tensors to a device, before any GradientStep is built."""
        self.device = torch.device(device)
        self.to(self.device)
        if isinstance(self.explorer.number, Tensor):
            self.explorer.keep(self.device)

    @property
    def explorer(self) -> Explorer:
        """The exploration, whose number follows the run; an idle one where the algorithm has none."""
        exploration = getattr(self, "exploration", None)
        return exploration if isinstance(exploration, Explorer) else Explorer()

    def train(self, mode: bool = True) -> Self:
        """Set the mode as nn.Module does, but keep recurrent layers without dropout in training mode.

        cuDNN computes their gradients only in training mode.
        """
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.RNNBase) and not two_modes(module):
                module.training = True
        return self

    @property
    def lasting(self) -> Collection[int]:
        """The places of what in the carry outlasts an episode; all else is begun anew at its end."""
        return ()

    def act(self, obs: Obs, carry: Carry, explore: bool) -> tuple[Tensor, Carry, dict[str, Tensor]]:
        """Choose actions.

        Args:
            obs: [B, *O].
            carry: the policy's memory; each tensor [B, ...].
            explore: sample or add noise; else take the best known action.

        Returns:
            The action [B, *A], the carry for the next step, and what to record beside the transition.
        """
        raise NotImplementedError

    def update(self, batch: Transition) -> dict[str, Tensor]:
        """Learn from a batch of the memory; return 0-dim metrics, left on the device."""
        raise NotImplementedError

    def begin(self, load: Callable[[str], dict[str, Tensor]]) -> None:
        """Load what a fresh run takes from other runs, before its first step; `load(RUN)` returns a run's tensors."""

    def start_from(self, tensors: dict[str, Tensor], name: str) -> None:
        """Copy another run's policy, and all other tensors with the same name and shape.

        Raises:
            UserError: the policies differ.
        """
        current = self.state_dict()
        policy = [k for k in current if k.startswith(self.policy_names)]
        wrong = [k for k in policy if k not in tensors or tensors[k].shape != current[k].shape]
        own = tuple(name for name in self.policy_names if any(k.startswith(name) for k in policy))
        wrong += [k for k in tensors if k.startswith(own) and k not in current]
        if wrong or not policy:
            raise UserError(f"{name} holds another policy than this one" + (f": see {wrong[0]}" if wrong else ""))
        same = {k: v for k, v in tensors.items() if k in current and v.shape == current[k].shape}
        self.load_state_dict({**current, **same})

    def forget_episodes(self) -> None:
        """Drop what is known of the open episodes: all environments begin new ones."""

    def log_prob(self, batch: Transition) -> Tensor | None:
        """Compute log π(a_t|s_t) of a rollout's actions, [T, B]; None where the policy has no density."""
        return None

    def initial_carry(self, num_envs: int) -> Carry:
        """Return the policy's memory at an episode's start; each tensor [B, ...]."""
        return ()

    def replica(self, device: str | torch.device) -> Self:
        """Copy the algorithm to another device, to act there; the copy can't learn."""
        bare = copy.copy(self)
        bare.__dict__ = {k: v for k, v in vars(self).items() if not isinstance(v, GradientStep | Recorded)}
        bare.captured = None
        twin = copy.deepcopy(bare)
        twin.place(device)
        return twin

    def steps(self) -> dict[str, GradientStep]:
        """Return the gradient steps by attribute name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, GradientStep)}

    def capture(self, graphs: Graphs) -> None:
        """Capture the gradient steps as graphs from here on, where they can be."""
        self.captured = graphs
        self.explorer.keep(self.device)
        for step in self.steps().values():
            step.capture(graphs)

    @property
    def compile_seconds(self) -> float:
        """Seconds that compiling has taken."""
        return sum(step.compile_seconds for step in self.steps().values())

    def set_progress(self, progress: float) -> None:
        """Give every schedule the share of the run that is done, in [0, 1]."""
        self.progress = progress
        self.follow_schedules(progress)
        self.explorer.follow(progress)
        for step in self.steps().values():
            step.set_progress(progress)

    def schedules(self) -> dict[str, float]:
        """Return the current value of each schedule, by the tag of its curve."""
        rates = {
            f"schedule/{tag}": lr
            for name, step in self.steps().items()
            for tag, lr in zip((rate_name(name), "lr_critic"), step.rates, strict=False)
        }
        explored = self.explorer.figures(self.progress)
        coefficients = {name: schedule(self.progress) for name, schedule in self.scheduled.items()}
        return {**rates, **{f"schedule/{name}": value for name, value in {**explored, **coefficients}.items()}}

    def snapshot(self) -> dict[str, Any]:
        """Return parameters, normalisers and optimizer states as tensors."""
        optimizers = {name: step.optimizer.state_dict() for name, step in self.steps().items()}
        return {"module": {k: v.detach() for k, v in self.state_dict().items()}, "optimizers": optimizers}

    def restore(self, state: dict[str, Any], *, optimizers: bool = True) -> None:
        """Load a snapshot.

        Raises:
            UserError: the snapshot is of another network.
        """
        check_same_network(self.state_dict(), state["module"])
        self.load_state_dict(state["module"])
        if optimizers:
            for name, step in self.steps().items():
                step.optimizer.load_state_dict(state["optimizers"][name])


class Learner(Algorithm):
    """An algorithm that learns its networks by gradient steps; it keeps the parts that make both.

    Subclasses build their networks, call `settle()`, then make their steps by `gradient_step`.

    Args:
        obs_space, action_space: the environments'.
        network: makes the encoders.
        optimizer: makes the optimizer of each gradient step.
        device: where it learns.
        compile: compile the gradient steps.
        gamma: discount γ.
        max_grad_norm: clip each gradient's norm to this; None leaves it.
    """

    def __init__(
        self,
        *,
        obs_space: gym.Space,
        action_space: gym.Space,
        network: Network,
        optimizer: Callable[..., Any],
        device: str,
        compile: bool,
        gamma: Fraction,
        max_grad_norm: Positive | None,
    ) -> None:
        super().__init__(obs_space=obs_space, action_space=action_space)
        self.network, self.optimizer, self.compile_steps = network, optimizer, compile
        self.gamma, self.max_grad_norm = gamma, max_grad_norm
        self.device = torch.device(device)

    def settle(self) -> None:
        """Move the networks to their device and check them, before any gradient step is made.

        Raises:
            UserError: a layer computes one thing in training and another when acting, and the algorithm can't allow
                that; or a setting of Gaussian policies is changed, and there is none.
        """
        check_gaussian(self.network, self)
        if self.compile_steps:
            self.explorer.keep(self.device)
        self.place(self.device)
        self.check_modes()
        self.eval()

    def check_modes(self) -> None:
        """Raise UserError where layers with two modes would falsify what is learnt."""
        name, two = type(self).__name__, [module for child in self.children() for module in two_modes(child)]
        mixing = [module for module in two if mixes_rows(module)]
        if two and self.compares:
            raise UserError(
                f"{name} compares its policy with the one that acted, and {named(two)} makes it another one while it "
                "learns: use a network without (nn.LayerNorm has one mode), or algo=sac, td3, dqn or sac_discrete"
            )
        if mixing and self.learns_from != "steps":
            raise UserError(
                f"{name} learns from whole rollouts, with rows that don't count, and {named(mixing)} would take its "
                "statistics from them too: use nn.LayerNorm, or an algorithm with a replay of steps, such as algo=sac"
            )

    def gradient_step(
        self,
        parameters: Iterable[nn.Parameter],
        loss: Loss,
        *,
        name: str = "",
        lr: float | str | None = None,
        fisher: Fisher | None = None,
        prepare_args: Callable[..., tuple[Any, ...]] | None = None,
        learners: int = 1,
        apart: tuple[Iterable[nn.Parameter], float | str] | None = None,
    ) -> GradientStep:
        """Make a gradient step of a loss, with the run's optimizer; `lr` replaces its learning rate."""
        parameters = list(parameters)
        check_apart(self, parameters, (p for step in self.steps().values() for p in step.parameters))
        return GradientStep(
            self,
            parameters,
            loss,
            self.optimizer if lr is None else partial(self.optimizer, lr=lr),
            max_grad_norm=self.max_grad_norm,
            compile=self.compile_steps,
            name=name,
            fisher=fisher,
            prepare_args=prepare_args,
            learners=learners,
            apart=apart,
        )
