"""Adapters round small Gymnasium environments whose every transition is known."""

from collections.abc import Mapping, Sequence
from typing import Any

import worlds  # noqa: F401 (registers the test environments)

from pgrun.envs import make
from pgrun.envs.gymnasium import GymVectorEnv


def adapter(
    id: str,
    num_envs: int = 2,
    backend: Any = "auto",
    autoreset: Any = "same_step",
    limit: int | None = None,
    kwargs: Mapping[str, Any] | None = None,
    wrappers: Sequence[Any] = (),
    float64: bool = False,
    seed: int = 0,
) -> GymVectorEnv:
    env = make(
        id=id,
        num_envs=num_envs,
        backend=backend,
        autoreset=autoreset,
        max_episode_steps=limit,
        extra=None,
        kwargs=kwargs or {},
        wrappers=wrappers,
        float64=float64,
        seed=seed,
    )
    assert isinstance(env, GymVectorEnv)
    return env
