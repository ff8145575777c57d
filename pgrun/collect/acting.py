"""Acting: one step of a policy, a bound on episodes, and finished rollouts.

Shapes: T time, B environments.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pgrun.collect.episode_stats import EpisodeStats
from pgrun.collect.finite import check_observations
from pgrun.collect.recorder import Recorder, stack_steps
from pgrun.data.policy import Policy
from pgrun.data.types import Carry, Obs, Transition, map_obs


def never() -> bool:
    """Return False: never interrupt."""
    return False


class Bound:
    """The most steps that an episode may take, and the length of each open one. All tensors are [B].

    Args:
        most: steps; None: no bound.
    """

    def __init__(self, most: int | None) -> None:
        self.most, self.told = most, False

    def begin(self, num_envs: int) -> None:
        """Begin all episodes."""
        self.length = torch.zeros(num_envs, dtype=torch.int64)
        self.over = torch.zeros(num_envs, dtype=torch.bool)  # episodes that were cut, and wait until all begin anew
        self.cuts = 0  # how many those are
        self.none = torch.zeros(num_envs, dtype=torch.bool)
        self.longest = 0  # no open episode has more steps

    def go_on(self, length: Tensor, over: Tensor) -> None:
        """Go on with open episodes of these lengths."""
        self.length, self.over, self.cuts = length, over, int(over.sum())
        self.none, self.longest = torch.zeros_like(over), int(length.max())

    def passed(self, counted: Tensor, last: Tensor) -> Tensor:
        """Count a step, and return which episodes are cut after it.

        Args:
            counted: [B] bool, the episodes whose step counts.
            last: [B] bool, the episodes that end by themselves.

        Returns:
            [B] bool.
        """
        self.length = torch.where(last, 0, self.length + counted)
        self.longest += 1
        if self.most is None or self.longest < self.most:
            return self.none
        self.longest = int(self.length.max())
        cut = counted & ~last & (self.length >= self.most)
        if bool(cut.any()):
            self.over, self.cuts = self.over | cut, self.cuts + int(cut.sum())
        return cut


def finish_rollout(recorder: Recorder, stats: EpisodeStats) -> Transition:
    """Finish a rollout: stack its steps, check that they are finite, and add them to the statistics."""
    rollout = recorder.rollout()
    finish(rollout, stats, recorder.streams(), stack_steps(recorder.over) if recorder.over else rollout.last)
    for t, infos in recorder.infos:
        stats.add_infos(infos, rollout.valid[t])
    return rollout


def finish(
    rollout: Transition, stats: EpisodeStats, streams: dict[str, Tensor], over: Tensor, *, later: bool = False
) -> Transition:
    """Check that a rollout [T, B, ...] is finite, and add it to the statistics.

    Args:
        rollout: of whatever length.
        stats: the statistics.
        streams: rewards that are only logged, each [T, B], by name.
        over: where the environments' own episodes end, [T, B] bool.
        later: compute the statistics when they are read.
    """
    check_observations(rollout)
    if later:
        stats.defer(rollout, over, streams)
    else:
        stats.add(rollout.reward, over, rollout.valid, streams, rollout.discount)
        stats.steps.add(rollout)
    return rollout


def ask(policy: Policy, obs: Obs, carry: Carry, *, explore: bool) -> tuple[Tensor, Carry, dict[str, Tensor]]:
    """Call `policy.act` on the policy's device.

    Environments get the actions where their observations are; the carry stays with the policy.
    """
    on, at = policy.device, device_of(obs)
    if on.type == at.type:
        return policy.act(obs, carry, explore)
    there = map_obs(lambda x: x.to(on), obs), tuple(c.to(on) for c in carry)
    action, carry, extras = policy.act(*there, explore)
    if at.type == "cpu":
        return action.cpu(), carry, {key: x.cpu() for key, x in extras.items()}
    return action.to(at), carry, {key: x.to(at) for key, x in extras.items()}


def device_of(obs: Obs) -> torch.device:
    """Return the device that observations are on."""
    x: Tensor = next(iter(obs.values())) if isinstance(obs, dict) else obs
    return x.device
