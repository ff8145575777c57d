"""Find out which options work with which algorithms, by building each pair.

    python scripts/pages.py options    # a few minutes; writes the table into docs/algorithms.md

Each algorithm is tried on its kinds of environment: discrete and continuous actions, or several agents. An option works
with it if one of them is built; else its refusal stands in the table.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import gymnasium as gym
import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from pgrun.config.paths import config_dir
from pgrun.config.values import WrongSetting, validate
from pgrun.errors import UserError
from pgrun.run.build import Parts, build
from pgrun.sweep.resolvers import register_resolvers

PLAIN = "nothing"
# what is chosen: the overrides as they are typed
OPTIONS: dict[str, tuple[str, ...]] = {
    PLAIN: (),
    "learning rate by a schedule": ("optimizer.lr=cosine:1e-3:1e-5",),
    "the critic's own learning rate": ("algo.critic_lr=linear:1e-3:1e-4",),
    "the critic's own learning rate, where it is fitted apart": ("algo.critic_fit.lr=linear:1e-3:1e-4",),
    "the actor's own learning rate": ("algo.actor_lr=linear:1e-3:1e-4",),
    "entropy bonus by a schedule": ("algo.entropy_coef=linear:0.01:0",),
    "value loss's weight by a schedule": ("algo.value_coef=linear:0.5:0.1",),
    "clip range by a schedule": ("algo.clip_range=linear:0.2:0.05",),
    "a wider clip above 1": ("algo.clip_high=0.3",),
    "stop of the epochs at a KL": ("algo.kl_stop=0.02",),
    "clip of the values' change": ("algo.value_clip=0.2",),
    "KL target by a schedule": ("algo.kl_target=linear:0.02:0.005",),
    "trust region by a schedule": ("algo.delta=linear:0.02:0.005",),
    "ACER's trust region by a schedule": ("algo.trust_region=linear:1:0.5",),
    "mirror descent's step by a schedule": ("algo.eta=cosine:1:0.1",),
    "temperature by a schedule": ("algo.temperature=linear:1:0.1",),
    "target entropy by a schedule": ("algo.target_entropy=linear:0:-1",),
    "target entropy's share by a schedule": ("algo.entropy_fraction=linear:0.9:0.3",),
    "target noise by a schedule": ("algo.target_noise=linear:0.2:0.1",),
    "ε of exploration by a schedule": ("algo.exploration.epsilon=piecewise:1@0:0.1@0.3:0@1",),
    "σ of exploration by a schedule": ("algo.exploration.sigma=linear:0.3:0.05",),
    "hard copies of target networks": ("algo.tau=null", "algo.target_every=10"),
    "hard copies of the average policy": ("algo.average_decay=null", "algo.target_every=10"),
    "σ of the state": ("network.std=state",),
    "state-dependent exploration": ("network.std=sde",),
    "a Gaussian squashed by tanh": ("network.squash=true",),
    "any sum of forms of Ψ": ("algo/advantage=mixture", "algo.advantage.weights={gae:0.5,td:0.7,nstep:-0.1}"),
    "V-trace": ("algo/advantage=vtrace",),
    "a learned Q as Ψ": ("algo/advantage=q",),
    "a learned advantage as Ψ": ("algo/advantage=a",),
    "a network with a memory": ("network=gru", "network.hidden=[8]"),
    "a network with a memory, from replayed sequences": ("network=gru", "network.hidden=[8]", "memory=sequences"),
    "the same by priority": ("network=gru", "network.hidden=[8]", "memory=prioritized_sequences"),
    "running statistics of observations": ("network.normalize_obs=true",),
    "layer normalisation": ("network.layer_norm=true",),
    "compiled steps": ("compile=true",),
}


@dataclass(frozen=True)
class Trial:
    """The outcome of an option with an algorithm.

    Args:
        env: the override of the environment on which it was built; None: on none.
        refusal: why it could not be built; "" if the algorithm has no such key.
    """

    env: str | None
    refusal: str = ""


@cache
def algorithms() -> list[str]:
    """List the shipped algorithms that learn from nothing but their environment."""
    names = [path.stem for path in sorted((config_dir() / "algo").glob("*.yaml"))]
    return [name for name in names if try_out(name, PLAIN).env]


@cache
def composed(*overrides: str) -> DictConfig:
    """Compose the config of these overrides."""
    register_resolvers()
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        return hydra.compose("config", overrides=list(overrides))


def small(algo: str, env: str, *option: str) -> list[str]:
    """Return overrides for a few quick updates of an algorithm with an option."""
    words = [f"algo={algo}", env, "num_envs=4", "workers=1", "parallel=none"]
    words += [] if any(word.startswith("network=") for word in option) else ["network=mlp", "network.hidden=[8]"]
    config = composed(f"algo={algo}", env)
    episodes = "episodes" in config.collector
    words += ["algo.rollout=6"] if config.algo.get("rollout") and not episodes else []
    words += ["memory.warmup=16", "memory.batch_size=8"] if "batch_size" in config.memory else []
    words += ["algo.minibatch=8"] if "minibatch" in config.algo else []
    words += ["algo.group=2"] if "group" in config.algo else []
    words += ["collector.episodes=4"] if episodes else []
    return [*words, *option]


def has_keys(algo: str, option: str) -> bool:
    """Tell whether a recipe has the keys that an option changes."""
    config = composed(f"algo={algo}", "env=cartpole")
    keys = [word.partition("=")[0] for word in OPTIONS[option]]
    chosen = tuple(key.replace("/", ".") + "." for key in keys if "/" in key)  # whose own keys are not the recipe's
    keys = [key.replace("/", ".") for key in keys if not key.startswith(chosen)]
    return all(OmegaConf.select(config, key) is not None or key_is_null(config, key) for key in keys)


def key_is_null(config: DictConfig, key: str) -> bool:
    """Tell whether a config has a key whose value is null."""
    node, _, name = key.rpartition(".")
    inside = OmegaConf.select(config, node) if node else config
    return isinstance(inside, DictConfig) and name in inside


def try_out(algo: str, option: str, use: Callable[[Parts], object] = lambda parts: None) -> Trial:
    """Build an algorithm with an option on the first of its environments where that can be done.

    Args:
        algo: the recipe.
        option: a name of OPTIONS.
        use: called with the parts, such as to take a few updates.
    """
    if not has_keys(algo, option):
        return Trial(None)
    refusal = ""
    for env in environments(algo):
        try:
            config = OmegaConf.create(composed(*small(algo, env, *OPTIONS[option])))
            validate(config)
            parts = build(config)
            use(parts)
            parts.collector.env.close()
            return Trial(env)
        except WrongSetting:
            continue
        except UserError as error:
            refusal = str(error)  # of the last environment: of continuous actions, where it takes them
        except HydraException:  # no such key
            continue
    return Trial(None, refusal)


def class_of(algo: str) -> Any:
    """Import a recipe's class."""
    return get_class(str(composed(f"algo={algo}", "env=cartpole").algo._target_))


def environments(algo: str) -> tuple[str, ...]:
    """List environments whose actions an algorithm can take; discrete ones first."""
    spaces = class_of(algo).action_spaces
    if spaces == (gym.spaces.Dict,):
        return ("env=simple_spread",)
    kinds = {"env=cartpole": gym.spaces.Discrete, "env=pendulum": gym.spaces.Box}
    return tuple(env for env, space in kinds.items() if space in spaces)


def page() -> str:
    """Write the table, an option a row, with whom it works and who refuses it; below it the refusals, by number."""
    lines = ["| Option | As typed | Works with | Refused by |", "| --- | --- | --- | --- |"]
    notes: list[str] = []
    for option in OPTIONS:
        if option == PLAIN:
            continue
        trials = {algo: try_out(algo, option) for algo in algorithms()}
        works = [algo for algo, trial in trials.items() if trial.env]
        reasons: dict[str, list[str]] = {}
        for algo, trial in trials.items():
            if trial.refusal:
                reasons.setdefault(anonymous(trial.refusal, algo), []).append(algo)
        notes += [reason for reason in reasons if reason not in notes]
        refused = "; ".join(f"{', '.join(names)} ({notes.index(why) + 1})" for why, names in reasons.items())
        typed = " ".join(f"`{word}`" for word in OPTIONS[option])
        who = "all" if len(works) == len(trials) else ", ".join(works)
        lines.append(f"| {option} | {typed} | {who} | {refused or '–'} |")
    return "\n".join([*lines, "", *(f"{i}. {note}" for i, note in enumerate(notes, 1))])


def anonymous(refusal: str, algo: str) -> str:
    """Leave the algorithm's name out of a refusal, so that refusals with one reason are one."""
    name = class_of(algo).__name__
    return re.sub(rf"\b(algo={algo}|{name})\b", "the algorithm", refusal)
