"""Adapters round small Gymnasium environments whose every transition is known."""

import worlds  # noqa: F401 (registers the test environments)

from pgrun.envs import make


def adapter(
    id, num_envs=2, backend="auto", autoreset="same_step", limit=None, kwargs=None, wrappers=(), float64=False, seed=0
):
    return make(
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
