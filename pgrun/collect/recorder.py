"""The recorder of a rollout's steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pgrun.collect.episode_stats import NO_STREAMS
from pgrun.data.policy import Policy
from pgrun.data.types import Carry, Obs, Step, Transition, map_obs


class Recorder:
    """Collects the steps of one rollout in lists and stacks them once."""

    def __init__(self) -> None:
        self.obs: list[Obs] = []
        self.next_obs: list[Obs] = []
        self.action: list[Tensor] = []
        self.reward: list[Tensor] = []
        self.discount: list[Tensor] = []
        self.last: list[Tensor] = []
        self.valid: list[Tensor] = []
        self.other: list[dict[str, Tensor]] = []
        self.extras: list[dict[str, Tensor]] = []
        self.over: list[Tensor] = []  # where the environments' own episodes end, if they say so
        self.infos: list[tuple[int, dict[str, Tensor]]] = []  # by step: of the episodes that end there

    def __len__(self) -> int:
        return len(self.reward)

    def keep(
        self, step: Step, policy: Policy, obs: Obs, action: Tensor, extras: dict[str, Tensor], carry: Carry
    ) -> tuple[Obs, Carry]:
        """Record a step of the environments.

        Args:
            step: the environments' answer.
            policy: who acted.
            obs: the observations that it acted on.
            action: its actions.
            extras: what is kept beside them.
            carry: what it remembers.

        Returns:
            The observations to act on next, and the carry, begun anew where an episode ended.
        """
        self.obs.append(obs)
        self.action.append(action)
        self.next_obs.append(step.next_obs)
        self.reward.append(step.reward)
        self.discount.append(step.discount)
        self.last.append(step.last)
        self.valid.append(step.valid)
        self.extras.append(extras)
        if step.streams:
            self.other.append(step.streams)
        if step.over is not None:
            self.over.append(step.over)
        if step.infos:
            self.infos.append((len(self) - 1, step.infos))
        return step.obs, begun_anew(carry, step, policy)

    def streams(self) -> dict[str, Tensor]:
        """Return the rewards that are only logged, each [T, B], by name."""
        return {name: torch.stack([row[name] for row in self.other]) for name in (self.other or [NO_STREAMS])[0]}

    def snapshot(self) -> dict[str, Any] | None:
        """Return all steps as tensors [T, B, ...] by name; None if there are none."""
        if not self.reward:
            return None
        over = {"over": stack_steps(self.over)} if self.over else {}
        infos = {"infos": [[t, dict(row)] for t, row in self.infos]} if self.infos else {}
        return {**self.rollout()._asdict(), "streams": self.streams(), **over, **infos}

    @classmethod
    def of(cls, state: dict[str, Any] | None) -> Recorder:
        """Make a recorder that holds a snapshot's steps."""
        recorder = cls()
        if state is not None:
            for name in ("action", "reward", "discount", "last", "valid"):
                getattr(recorder, name).extend(state[name].unbind())
            recorder.over = list(state["over"].unbind()) if "over" in state else []
            recorder.infos = [(t, row) for t, row in state.get("infos", [])]
            for t in range(len(recorder)):
                recorder.obs.append(map_obs(lambda x: x[t], state["obs"]))  # noqa: B023
                recorder.next_obs.append(map_obs(lambda x: x[t], state["next_obs"]))  # noqa: B023
                recorder.extras.append({key: x[t] for key, x in state["extras"].items()})
                recorder.other += [{key: x[t] for key, x in state["streams"].items()}] if state["streams"] else []
        return recorder

    def rollout(self) -> Transition:
        """Stack all steps into a rollout [T, B, ...]."""
        first = self.extras[0]
        return Transition(
            obs=stack_observations(self.obs),
            action=stack_steps(self.action),
            reward=stack_steps(self.reward),
            discount=stack_steps(self.discount),
            next_obs=stack_observations(self.next_obs),
            last=stack_steps(self.last),
            valid=stack_steps(self.valid),
            extras={key: stack_steps([row[key] for row in self.extras]) for key in first},
        )


def begun_anew(carry: Carry, step: Step, policy: Policy) -> Carry:
    """Put the initial carry where an episode ended, and after filler rows; what the policy says is lasting stays."""
    if not carry or bool((ended := step.last | ~step.valid).logical_not().all()):
        return carry
    return where_ended(carry, ended, policy)


def where_ended(carry: Carry, ended: Tensor, policy: Policy) -> Carry:
    """Put the initial carry where an episode ended, [B] bool."""
    fresh, lasting = policy.initial_carry(len(ended)), getattr(policy, "lasting", ())
    return tuple(
        c if i in lasting else torch.where(ended.reshape(-1, *([1] * (c.dim() - 1))).to(c.device), f, c)
        for i, (c, f) in enumerate(zip(carry, fresh, strict=True))
    )


def stack_steps(steps: Sequence[Tensor]) -> Tensor:
    """Stack T tensors [B, ...] into one [T, B, ...]."""
    return torch.stack(steps) if len(steps) > 1 else steps[0].unsqueeze(0)  # type: ignore[arg-type]


def stack_observations(steps: list[Obs]) -> Obs:
    """Stack T observations [B, *O] into one [T, B, *O]."""
    return map_obs(lambda *parts: stack_steps(parts), steps[0], *steps[1:])
