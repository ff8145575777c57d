"""From a config's `env` group to a vector environment."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from pgrun.envs.gymnasium import GymVectorEnv
from pgrun.envs.state import Stateful
from pgrun.errors import UserError

BACKENDS = ("auto", "native", "sync", "async", "envpool")


def make(
    *,
    id: str,
    num_envs: int,
    backend: str,
    autoreset: str,
    max_episode_steps: int | None,
    extra: str | None,
    kwargs: Mapping[str, Any],
    wrappers: Sequence[Callable[[gym.Env], gym.Env]],
    seed: int,
) -> GymVectorEnv:
    """B copies of a Gymnasium environment; the keys are explained in configs/env/gym.yaml.

    Raises:
        UserError: an id, backend or combination that can't be had, or a package that is missing.
    """
    if backend not in BACKENDS:
        raise UserError(f"env.backend={backend} is not known; choose one of {', '.join(BACKENDS)}")
    if autoreset not in ("same_step", "next_step"):
        raise UserError(f"env.autoreset={autoreset} is not known; choose same_step or next_step")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a newer version exists; a bound's precision was lowered
            return _make(id, num_envs, backend, autoreset, max_episode_steps, dict(kwargs), wrappers, seed)
    except gym.error.DependencyNotInstalled as error:
        raise UserError(_missing(id, extra, error)) from error
    except ModuleNotFoundError as error:
        raise UserError(_missing(id, extra, error)) from error
    except (gym.error.UnregisteredEnv, gym.error.Error) as error:
        raise UserError(_unknown(id)) from error
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        raise UserError(f"env.kwargs: {id} takes no such argument ({error})") from error


def _make(
    id: str,
    num_envs: int,
    backend: str,
    autoreset: str,
    limit: int | None,
    kwargs: dict[str, Any],
    wrappers: Sequence[Callable[[gym.Env], gym.Env]],
    seed: int,
) -> GymVectorEnv:
    if backend == "envpool":
        return _envpool(id, num_envs, limit, kwargs, wrappers, seed)
    module, _, name = id.rpartition(":")
    spec = gym.spec(id) if not module else _imported_spec(module, name)
    native = spec.vector_entry_point is not None and not wrappers
    if backend == "native" and not native:
        why = "wrappers can't be put round one" if wrappers else "it has none"
        raise UserError(f"env.backend=native: {id} can't be natively vectorised ({why}); use env.backend=sync or async")
    if limit is not None:
        kwargs["max_episode_steps"] = limit
    if backend == "native" or (backend == "auto" and native):
        env = gym.make_vec(id, num_envs=num_envs, vectorization_mode="vector_entry_point", **kwargs)
        same = env.metadata.get("autoreset_mode") == AutoresetMode.SAME_STEP
        return GymVectorEnv(env, num_envs=num_envs, same_step=same, stateful="native")

    def copy(index: int) -> Callable[[], gym.Env]:
        def build() -> gym.Env:
            env = gym.make(id, disable_env_checker=True, **kwargs)
            for wrapper in wrappers:
                env = wrapper(env)
            return Stateful(env, index)

        return build

    same = autoreset == "same_step"
    mode = AutoresetMode.SAME_STEP if same else AutoresetMode.NEXT_STEP
    vector = AsyncVectorEnv if backend == "async" else SyncVectorEnv
    envs = vector([copy(i) for i in range(num_envs)], autoreset_mode=mode)
    # a worker process in NEXT_STEP mode remembers by itself who resets next, and can't be told
    stateful = None if backend == "async" and not same else "copies"
    return GymVectorEnv(envs, num_envs=num_envs, same_step=same, stateful=stateful)


def _envpool(
    id: str, num_envs: int, limit: int | None, kwargs: dict[str, Any], wrappers: Sequence[Any], seed: int
) -> GymVectorEnv:
    if wrappers:
        raise UserError("env.backend=envpool takes no env.wrappers; use env.backend=sync or async")
    try:
        import envpool
    except ImportError as error:
        raise UserError("env.backend=envpool needs envpool: pip install 'pgrun[envpool]'") from error
    if limit is not None:
        kwargs["max_episode_steps"] = limit
    if id not in envpool.list_all_envs():
        near = difflib.get_close_matches(id, envpool.list_all_envs(), 3)
        raise UserError(f"env.backend=envpool has no {id}" + (f"; it has {', '.join(near)}" if near else ""))
    first = int(np.random.SeedSequence(seed).generate_state(1)[0] % 2**31)
    env = envpool.make(id, env_type="gymnasium", num_envs=num_envs, seed=first, **kwargs)
    return GymVectorEnv(env, num_envs=num_envs, same_step=False, stateful=None)


def _imported_spec(module: str, name: str) -> Any:
    __import__(module)
    return gym.spec(name)


def _missing(id: str, extra: str | None, error: Exception) -> str:
    if extra is not None:
        return f"{id} needs a package that is not installed: pip install 'pgrun[{extra}]'"
    return f"{id} needs a package that is not installed: {str(error).splitlines()[0]}"


def _unknown(id: str) -> str:
    name = id.rpartition(":")[2]
    near = difflib.get_close_matches(name, list(gym.registry), 3)
    hint = f"; did you mean {', '.join(near)}?" if near else "; a package of yours is named as module:Id-v0"
    return f"env.id={id} is not a registered Gymnasium environment{hint}"
