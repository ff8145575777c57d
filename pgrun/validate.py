"""Types and ranges of config values, checked before torch is loaded and before anything is written."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pgrun.errors import UserError

Check = tuple[Callable[[Any], bool], str]


def _at_least(low: float) -> Check:
    return (lambda x: x >= low, f"at least {low}")


POSITIVE: Check = (lambda x: x > 0, "above 0")
FRACTION: Check = (lambda x: 0 <= x <= 1, "from 0 to 1")

# A key's range, by its last name; it holds wherever the key appears and is a number.
RANGES: dict[str, Check] = {
    "seed": _at_least(0),
    "total_steps": _at_least(1),
    "threads": _at_least(1),
    "every": _at_least(1),
    "keep": _at_least(1),
    "episodes": _at_least(1),
    "final_episodes": _at_least(0),
    "num_envs": _at_least(1),
    "workers": _at_least(1),
    "max_episode_steps": _at_least(1),
    "max_steps": _at_least(1),
    "rollout": _at_least(1),
    "epochs": _at_least(1),
    "minibatch": _at_least(1),
    "capacity": _at_least(1),
    "batch_size": _at_least(1),
    "updates": _at_least(1),
    "random_hold": _at_least(1),
    "warmup": _at_least(0),
    "n": _at_least(1),
    "n_step": _at_least(1),
    "beta": FRACTION,
    "anneal": _at_least(1),
    "epsilon": FRACTION,
    "fraction": (lambda x: 0 < x <= 1, "above 0 and at most 1"),
    "target_every": _at_least(1),
    "gamma": FRACTION,
    "lambda_": FRACTION,
    "tau": (lambda x: 0 < x <= 1, "above 0 and at most 1"),
    "momentum": (lambda x: 0 <= x < 1, "at least 0 and below 1"),
    "alpha": FRACTION,
    "betas": (lambda x: 0 <= x < 1, "at least 0 and below 1"),
    "lr": POSITIVE,
    "eps": POSITIVE,
    "weight_decay": _at_least(0),
    "clip_range": POSITIVE,
    "max_grad_norm": POSITIVE,
    "init_temperature": POSITIVE,
    "reference_coef": _at_least(0),
    "kl_coef": POSITIVE,
    "kl_target": POSITIVE,
    "kl_high": _at_least(1),
    "kl_low": FRACTION,
    "kl_factor": _at_least(1),
    "kl_excess": _at_least(0),
    "policy_substeps": _at_least(1),
    "wait_for": _at_least(1),
    "cpus": _at_least(0),
    "entropy_coef": _at_least(0),
    "value_coef": _at_least(0),
    "eta": POSITIVE,
    "mirror_every": _at_least(1),
    "damping": POSITIVE,
    "decay": (lambda x: 0 <= x < 1, "at least 0 and below 1"),
    "max_kl": POSITIVE,
    "delta": POSITIVE,
    "step_length": POSITIVE,
    "cg_iterations": _at_least(1),
    "cg_tolerance": _at_least(0),
    "fisher_rows": _at_least(1),
    "backtracks": _at_least(1),
    "shrink": (lambda x: 0 < x < 1, "above 0 and below 1"),
    "factor_every": _at_least(1),
    "inverse_every": _at_least(1),
    "replay_ratio": _at_least(0),
    "policies": _at_least(1),
    "fit_steps": _at_least(0),
    "regularization": _at_least(0),
    "weight_clip": POSITIVE,
    "truncation": POSITIVE,
    "trust_region": _at_least(0),
    "average_decay": (lambda x: 0 <= x < 1, "at least 0 and below 1"),
    "draws": _at_least(1),
    "hidden": _at_least(1),
    "channels": _at_least(1),
    "size": _at_least(1),
    "sequence": _at_least(1),
    "group": _at_least(1),
    "contexts": _at_least(1),
    "arms": _at_least(1),
    "features": _at_least(1),
    "noise": _at_least(0),
    "sigma": _at_least(0),
    "final": _at_least(0),
    "theta": POSITIVE,
    "dt": POSITIVE,
    "actor_lr": POSITIVE,
    "critics": _at_least(1),
    "policy_delay": _at_least(1),
    "target_noise": _at_least(0),
    "target_noise_clip": _at_least(0),
    "atoms": _at_least(2),
    "spread": _at_least(0),
    "radius": POSITIVE,
    "temperature": POSITIVE,
    "reward_scale": POSITIVE,
    "entropy_fraction": FRACTION,
    "particles": _at_least(2),
    "value_samples": _at_least(1),
    "candidates": _at_least(1),
    "langevin_steps": _at_least(1),
    "distance": POSITIVE,
    "action_cost": _at_least(0),
    "distance_cost": _at_least(0),
    "width": POSITIVE,
    "logit_penalty": _at_least(0),
    "ensembles": _at_least(1),
    "infer_entropy": _at_least(0),
}

CHOICES: dict[str, tuple[str, ...]] = {
    "weights": ("trajectory", "per_decision", "per_step", "none"),
    "matmul_precision": ("highest", "exact", "high", "medium", "bfloat16"),
    "schedule": ("constant", "linear", "cosine"),
    "clip_schedule": ("constant", "linear", "cosine"),
    "eta_schedule": ("constant", "linear", "cosine"),
    "delta_schedule": ("constant", "linear", "cosine"),
    "step": ("kl", "fixed"),
    "kl": ("mean", "max"),
    "kl_direction": ("old_new", "new_old"),
    "cell": ("lstm", "gru"),
    "sampler": ("svgd", "mcmc"),
    "kl_estimator": ("k1", "k3"),
    "kl_in": ("loss", "reward"),
    "update": ("rollout", "step"),
    "reduce": ("rows", "sum", "mean"),
    "normalize": ("none", "episode", "batch"),
    "window": ("fixed", "rollout"),
    "activation": ("tanh", "relu", "elu", "silu"),
    "backend": ("auto", "native", "sync", "async", "envpool"),
    "agents": ("rows", "joint"),
    "autoreset": ("same_step", "next_step"),
}

# What may be null although its default is a number, and what kind of value replaces a null default.
NULLABLE = {
    "every",
    "stop_at",
    "max_grad_norm",
    "weight_clip",
    "clip_range",
    "max_episode_steps",
    "max_steps",
    "target_entropy",
    "n",
    "extra",
    "sequence",
    "features",
    "max_kl",
    "fisher_rows",
    "actor_lr",
}
NUMBERS = {
    "every",
    "stop_at",
    "weight_clip",
    "max_grad_norm",
    "clip_range",
    "max_episode_steps",
    "max_steps",
    "num_envs",
    "target_entropy",
    "n",
    "sequence",
    "features",
    "max_kl",
    "fisher_rows",
    "actor_lr",
    "lr",
    "wait_for",
}


def leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every (dotted key, value) of a config; lists are leaves."""
    for key in config:
        path = f"{prefix}{key}"
        if isinstance(config, DictConfig) and OmegaConf.is_missing(config, key):
            raise UserError(f"{path} has no value: give it one, {path}=…")
        value = config[key]
        if isinstance(value, DictConfig):
            yield from leaves(value, f"{path}.")
        else:
            yield path, value


def keys(config: DictConfig, prefix: str = "") -> Iterator[str]:
    """Every dotted key of a config, values unread."""
    for key, value in config.items_ex(resolve=False):
        if isinstance(value, DictConfig):
            yield from keys(value, f"{prefix}{key!s}.")
        else:
            yield f"{prefix}{key!s}"


def validate(config: DictConfig, defaults: DictConfig) -> None:
    """Check a composed config against the types of `defaults` (the same groups without the user's values) and RANGES.

    Raises:
        UserError: the first value of a wrong type or out of its range.
    """
    try:
        known = dict(leaves(defaults))
    except UserError:  # a value that only the user can give: no types to compare with
        known = {}
    try:
        for path, value in leaves(config):
            _check(path, value, known.get(path))
    except OmegaConfBaseException as error:
        raise UserError(str(error).splitlines()[0]) from error


def _check(path: str, value: Any, default: Any) -> None:
    name = path.rsplit(".", 1)[-1]
    if isinstance(value, ListConfig):
        for item in value:
            kind = default[0] if isinstance(default, ListConfig) and len(default) else None
            _check_one(path, name, item, kind)
        return
    if isinstance(default, ListConfig) and value is not None:
        raise UserError(f"{path}={value} should be a list, such as [{','.join(str(v) for v in default)}]")
    if value is None:
        if default is not None and name not in NULLABLE:
            raise UserError(f"{path}=null should be {_article(default)}, such as {_shown(default)}")
        return
    if default is None and name in NUMBERS:
        default = 8 if name == "num_envs" else 1.0
    _check_one(path, name, value, default)


def _check_one(path: str, name: str, value: Any, default: Any) -> None:
    if default is not None and not _fits(value, default):
        raise UserError(f"{path}={value} should be {_article(default)}, such as {_shown(default)}")
    if name in CHOICES and isinstance(value, str) and value not in CHOICES[name]:
        raise UserError(f"{path}={value} is not known; choose one of {_nearest(value, CHOICES[name])}")
    if name in RANGES and isinstance(value, (int, float)) and not isinstance(value, bool):
        holds, words = RANGES[name]
        if not holds(value):
            raise UserError(f"{path}={value} is out of range: it must be {words}")


def _fits(value: Any, default: Any) -> bool:
    if isinstance(default, bool):
        return isinstance(value, bool)
    if isinstance(default, int):
        return isinstance(value, int) and not isinstance(value, bool)
    if isinstance(default, float):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if isinstance(default, str):
        return isinstance(value, str)
    return True


def _article(default: Any) -> str:
    kinds = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    return kinds.get(type(default), f"a {type(default).__name__}")


def _shown(default: Any) -> str:
    return str(default).lower() if isinstance(default, bool) else str(default)


def _nearest(word: str, choices: Any) -> str:
    """The choices in words, nearest first."""
    ranked = sorted(choices, key=lambda c: -difflib.SequenceMatcher(None, word, c).ratio())
    return ", ".join(ranked)
