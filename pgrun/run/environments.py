"""Make the environments of a config, for training and for evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import gymnasium as gym
from omegaconf import DictConfig, OmegaConf

from pgrun.config.suggest import nearest
from pgrun.config.wrapper_settings import wrapper_settings
from pgrun.data.types import VectorEnv
from pgrun.envs.infos import Over
from pgrun.envs.one_copy import NOTHING as NOTHING_READ
from pgrun.envs.shaping import Shaped
from pgrun.errors import EnvFailed, UserError
from pgrun.run.instantiate import call
from pgrun.run.instantiate import made as make_part
from pgrun.system.randomness import own_randomness


def make_env(config: DictConfig, num_envs: int | None = None, *, reads: Mapping[str, Over] = NOTHING_READ) -> VectorEnv:
    """Make the environments of a config.

    Args:
        config: the composed config.
        num_envs: how many, for evaluation, where nothing shapes the reward; None: those of training.
        reads: keys of `info` whose numbers are wanted.
    """
    env = config.env if num_envs is None else eval_settings(config, num_envs)
    env = OmegaConf.masked_copy(env, [str(k) for k in env if k != "shaping"])
    if "wrappers" in env:
        env.wrappers = wrapper_settings(env.wrappers)
    with own_randomness(config.seed) if num_envs is not None else nullcontext():
        made = call(env, "env", seed=config.seed, reads=dict(reads))
    shaping = config.env.get("shaping")
    return shaped(made, shaping, config.algo) if shaping and num_envs is None else made


def shaped(env: VectorEnv, shaping: DictConfig, algo: DictConfig) -> VectorEnv:
    """Wrap environments with the config's potential-based reward shaping."""
    if algo.get("gamma") is None:
        raise UserError("env/shaping needs the algorithm's discount: give it an algo.gamma, or use env/shaping=none")
    return Shaped(env, make_part(shaping, "env.shaping"), algo.gamma)


EVAL_ENVS = 32  # the most copies in an evaluation where all are one object
ALONE = {"backend": "sync", "autoreset": "next_step"}  # of a single environment, whose last state can be drawn


def hook_env(config: DictConfig, arguments: Mapping[str, Any], *, training: bool = False) -> VectorEnv:
    """Make one environment as evaluation has them, with arguments in place of those of the config.

    Args:
        config: the composed config.
        arguments: of the environment itself, as in env.kwargs.
        training: make it as training has them.

    Raises:
        UserError: the environment takes no such argument.
    """
    if "kwargs" not in config.env:
        raise UserError(f"{config.env.get('_target_')} takes no env.kwargs")
    given = {} if training else OmegaConf.to_container(config.eval.get("env") or OmegaConf.create({}))
    alone = {key: value for key, value in ALONE.items() if key in config.env and value is not None}
    config = config.copy()
    OmegaConf.set_struct(config, False)
    config.eval.env = OmegaConf.merge(given, alone, {"kwargs": dict(arguments)})
    return make_env(config, 1)


def second_env(config: DictConfig, episodes: int, *, reads: Mapping[str, Over] = NOTHING_READ) -> VectorEnv:
    """Make the environments for an evaluation during or after training; raise EnvFailed if that fails."""
    try:
        return make_eval_env(config, episodes, reads=reads)
    except UserError as error:
        raise EnvFailed(
            f"evaluation needs environments of its own (here {eval_copies(config, episodes)}, eval.num_envs), and they "
            f"can't be had beside training's: {error}; without evaluation: eval.every=null eval.final_episodes=0"
        ) from error


def eval_copies(config: DictConfig, episodes: int) -> int:
    """Return how many copies run side by side in an evaluation of so many episodes."""
    return min(episodes, config.eval.get("num_envs") or config.env.get("num_envs", 1))


def make_eval_env(
    config: DictConfig, episodes: int, beside: VectorEnv | None = None, *, reads: Mapping[str, Over] = NOTHING_READ
) -> VectorEnv:
    """Make environments to evaluate so many episodes in.

    There are as many copies as in training, or as `eval.num_envs` says. Where copies are rows of arrays, and so cost
    nothing, there are more.

    Args:
        config: the composed config.
        episodes: of the evaluation.
        beside: the environments of training, whose spaces these must have; None: don't compare.
        reads: keys of `info` whose numbers are wanted.

    Raises:
        UserError: they can't be made, or have other spaces.
    """
    env = make_env(config, copies := eval_copies(config, episodes), reads=reads)
    if config.eval.get("num_envs") is None and getattr(env, "one_object", False) and copies < min(episodes, EVAL_ENVS):
        env.close()
        env = make_env(config, min(episodes, EVAL_ENVS), reads=reads)
    if beside is not None:
        for what, ours, theirs in (
            ("observations", env.obs_space, beside.obs_space),
            ("actions", env.action_space, beside.action_space),
        ):
            if not alike(ours, theirs):
                env.close()
                raise UserError(
                    f"eval.env: evaluation's {what} would be {ours}, and training's are {theirs}; the policy takes "
                    "no others"
                )
    return env


def alike(a: gym.Space, b: gym.Space) -> bool:
    """Return whether a policy for one space fits the other.

    The bounds of boxes may differ, as actions are canonical.
    """
    if isinstance(a, gym.spaces.Dict) and isinstance(b, gym.spaces.Dict):
        return list(a) == list(b) and all(alike(a[key], b[key]) for key in a)
    if isinstance(a, gym.spaces.Box):
        return isinstance(b, gym.spaces.Box) and (a.shape, a.dtype) == (b.shape, b.dtype)
    return a == b


def eval_settings(config: DictConfig, num_envs: int) -> DictConfig:
    """Return the `env` group as evaluation uses it, with the changes of `eval.env`."""
    changes = config.eval.get("env") or {}
    for key in changes:
        if key == "num_envs":
            raise UserError("eval.env.num_envs: evaluation's number of copies is eval.num_envs")
        if key == "shaping":
            raise UserError("eval.env.shaping: in evaluation nothing is added to the reward")
        if key not in config.env:
            close = nearest(str(key), [str(k) for k in config.env], 1)[0]
            raise UserError(f"there is no key eval.env.{key}, as there is no env.{key}; did you mean eval.env.{close}?")
    env = DictConfig(OmegaConf.merge(config.env, changes))
    env.num_envs = num_envs
    if env.get("backend") == "async" and "backend" not in changes:
        env.backend = "sync"  # one process is faster for a few episodes, and ends with the run
    return env
