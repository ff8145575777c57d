"""Training a run's own recipe on a ladder of probe environments, to see which rung it fails."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from pgrun.after.doctor.diagnose import examined, middle
from pgrun.after.doctor.findings import Diagnosis
from pgrun.envs.probes import LADDER, Rung
from pgrun.errors import Diverged, EnvFailed, UserError, WrongSpace
from pgrun.loop.evaluate import evaluate
from pgrun.loop.hooks import Every
from pgrun.loop.train import Clock, train
from pgrun.run.build import Parts, build
from pgrun.run.directory import flat, load_run

SECONDS = 50.0  # of the whole ladder
STEPS = 40_000  # the most environment steps on a rung
EVALUATIONS = 40  # a rung, at most
EPISODES = 40  # an evaluation
WARMUP, CAPACITY = 200, 10_000  # the most, of a replay here
SEED = 7_654_321  # of evaluations


@dataclass(frozen=True)
class Probed:
    """How a recipe did on one rung.

    Attributes:
        rung: the probe's name.
        asks: what it asks.
        passed: whether it was learnt; None: time ran out, or it can't be tried.
        score: the return at the end, divided by the scale of the rewards; None: it can't be tried.
        steps: environment steps.
        best: the return of the best policy.
        least: the return from which on it counts as learnt.
        most: the return up to which it does.
        note: what is wrong.
    """

    rung: str
    asks: str
    passed: bool | None
    score: float | None
    steps: int
    best: float
    least: float
    most: float
    note: str = ""

    def line(self) -> str:
        """Say it in a line."""
        word = {True: "passes", False: "FAILS ", None: "unsure"}[self.passed]
        needed = "" if self.passed else f", needed {self.least:g} to {self.most:g}"
        known = f"after {self.steps:,} steps, the best is {self.best:g}{needed}"
        score = "" if self.score is None else f" return {self.score:.2f} {known}"
        return f"{word}  {self.rung:6}  {self.asks}{score}" + (f": {self.note}" if self.note else "")

    def record(self) -> dict[str, Any]:
        """Return it as plain values."""
        return dict(vars(self))


def diagnose_and_climb(folder: Path, *, trust: bool) -> Diagnosis:
    """Say why a run doesn't learn, and how its recipe does on the ladder.

    Args:
        folder: the run directory.
        trust: use its code although it was not made here.

    Raises:
        UserError: it is no run directory, has no curves, or needs to be trusted.
    """
    config, _ = load_run(folder, trust=trust)
    run, said = examined(folder)
    reward_scale = middle(run, "reward/largest")
    probes = tuple(climb(config, reward_scale=reward_scale, obs_scale=middle(run, "obs/largest_rms")))
    advice = advise(config, probes, reward_scale, after_findings=bool(said.findings))
    return replace(said, probes=probes, probes_say=advice)


def climb(config: DictConfig, *, reward_scale: float, obs_scale: float, seconds: float = SECONDS) -> Iterator[Probed]:
    """Try a recipe on each rung until one fails, and yield how it did.

    Args:
        config: a run's, whose environment is replaced.
        reward_scale: the size of the run's rewards, which those of the probes get.
        obs_scale: the size of the run's observations.
        seconds: for all rungs.
    """
    end = time.perf_counter() + seconds
    for number, rung in enumerate(LADDER):
        left = (end - time.perf_counter()) / (len(LADDER) - number)
        probed = attempt(config, rung, reward_scale, obs_scale, left)
        yield probed
        if not probed.passed:
            return


def attempt(config: DictConfig, rung: Rung, reward_scale: float, obs_scale: float, seconds: float) -> Probed:
    """Try a recipe on one rung for so many seconds."""
    parts = None
    try:
        end = time.perf_counter() + seconds
        parts = built(config, rung, reward_scale, obs_scale, swap=False)
        if Watch(parts, rung, reward_scale, end).knows():  # by chance: it has to learn the opposite
            parts.collector.env.close()
            parts = built(config, rung, reward_scale, obs_scale, swap=True)
        return climbed(parts, rung, reward_scale, end)
    except Diverged as error:
        return probed_on(rung, False, None, 0, f"it diverges: {error}")
    except (UserError, EnvFailed) as error:
        return probed_on(rung, None, None, 0, f"this recipe can't be tried here: {error}")
    finally:
        if parts is not None:
            parts.collector.env.close()


def built(config: DictConfig, rung: Rung, reward_scale: float, obs_scale: float, *, swap: bool) -> Parts:
    """Build a recipe's parts on a rung, with the actions that the algorithm can take."""
    scales = {"reward_scale": reward_scale, "obs_scale": obs_scale, "swap": swap}
    try:
        return build(recipe(config, rung, continuous=False, **scales))
    except WrongSpace:
        return build(recipe(config, rung, continuous=True, **scales))


def climbed(parts: Parts, rung: Rung, reward_scale: float, end: float) -> Probed:
    """Train until the rung is learnt, or time or steps are over."""
    clock = Clock(STEPS)
    watch = Watch(parts, rung, reward_scale, end)
    try:
        train(parts.algorithm, parts.collector, parts.memory, clock, [watch], update=parts.update)
        watch.look(clock)
    finally:
        watch.env.close()
    passed = watch.passed or (None if clock.stop == "time" else False)
    note = "" if passed else "time ran out" if passed is None else rung.above if watch.score > rung.most else ""
    return probed_on(rung, passed, watch.score, clock.steps, note)


def probed_on(rung: Rung, passed: bool | None, score: float | None, steps: int, note: str = "") -> Probed:
    """Say how a recipe did on a rung; see `Probed`."""
    return Probed(rung.name, rung.asks, passed, score, steps, rung.best, rung.least, rung.most, note)


def advise(config: DictConfig, probes: tuple[Probed, ...], reward_scale: float, *, after_findings: bool) -> str:
    """Say where to look where a rung was not learnt; empty where all that were tried were.

    Args:
        config: the run's.
        probes: what was tried.
        reward_scale: the size of the probes' rewards.
        after_findings: whether the report has findings, which come first.
    """
    failed = [rung for rung, probed in zip(LADDER, probes, strict=False) if probed.passed is False]
    if not failed:
        return ""
    known = flat(config)

    def there(*keys: str) -> list[str]:
        return [f"{key}={known[key]}" for key in keys if known.get(key, "None") != "None"]

    rates = ", ".join(there("optimizer.lr", "algo.critic_lr"))
    scaling = ", ".join(there("algo.normalize_reward"))
    size = f"the probes' are those of the run: {reward_scale:.3g} for 1"
    looks = (
        f"the learning rate{f' ({rates})' * bool(rates)}",
        f"the size of the rewards ({'; '.join(filter(None, (size, scaling)))})",
        ", ".join((failed[0].advice, *there(*failed[0].keys))),
    )
    first = "the findings above come first; then, as " if after_findings else "as "
    return f"{first}{failed[0].name} is not learnt, look at {'; '.join(looks)}"


class Watch:
    """A hook that stops where a rung is learnt, or time is over."""

    def __init__(self, parts: Parts, rung: Rung, reward_scale: float, end: float) -> None:
        self.algorithm, self.rung, self.scale, self.end = parts.algorithm, rung, reward_scale, end
        self.env = parts.make_eval_env(EPISODES)
        self.due = Every(STEPS // EVALUATIONS, 0)
        self.score, self.passed = 0.0, False

    def __call__(self, clock: Clock, metrics: dict[str, Tensor]) -> None:
        """Evaluate if it is due."""
        if self.due(clock.steps):
            self.look(clock)
        if not clock.stop and time.perf_counter() > self.end:
            clock.stop = "time"

    def look(self, clock: Clock) -> None:
        """Evaluate the policy without exploration; stop where the rung is learnt and something was."""
        self.passed = self.knows() and bool(clock.updates)
        if self.passed:
            clock.stop = "learnt"

    def knows(self) -> bool:
        """Tell whether the policy, without exploration, earns what whoever knows the rung earns."""
        self.score = evaluate(self.algorithm, self.env, EPISODES, seed=SEED).mean / self.scale
        return self.rung.least <= self.score <= self.rung.most


def recipe(config: DictConfig, rung: Rung, **kwargs: Any) -> DictConfig:
    """Replace a config's environment by a probe; algorithm, network and optimizer stay."""
    config = config.copy()
    OmegaConf.set_struct(config, False)
    env = {
        **{"_target_": "pgrun.envs.make", "_partial_": True, "id": rung.id, "backend": "sync"},
        **{"autoreset": "same_step", "max_episode_steps": None, "extra": None, "wrappers": [], "float64": False},
        "num_envs": OmegaConf.select(config, "env.num_envs", default=config.get("num_envs", 8)),
        "kwargs": kwargs,
    }
    config.env = OmegaConf.create(env)
    config.eval.env, config.eval.num_envs = {}, None
    config.total_steps, config.device, config.act_device, config.compile = STEPS, "cpu", "cpu", False
    config.workers, config.graph = 1, False
    config.diagnostics = {"gradient_variance": False, "step_size": False}
    if "init_from" in config.algo:
        config.algo.init_from = None
    if "warmup" in config.memory:
        config.memory.warmup = min(config.memory.warmup, WARMUP)
    if "capacity" in config.memory:
        config.memory.capacity = min(config.memory.capacity, CAPACITY)
    if config.collector.get("random_steps"):
        config.collector.random_steps = min(config.collector.random_steps, WARMUP)
    return config
