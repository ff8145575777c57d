"""A run's curves, config and result, with the few questions that rules ask of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from pgrun.run.curve_file import Curve

RETURN, EVALUATION = "train/return", "eval/return"
CLEAR = 0.25  # share of the size of what came before by which an evaluation has to be better
DOUBLE = 1.0  # ... where there is only one evaluation, and of a negative return half of that
NOISES = 3.0  # standard errors by which a return has to rise to count as learning
SHARE = 0.02  # ... and at least this share of its size
START, END = 0.1, 0.3  # shares of a curve that count as its start and its end


@dataclass(frozen=True)
class Evidence:
    """The facts that are known of a run.

    Attributes:
        curves: by TensorBoard's names.
        config: settings by dotted key.
        result: the content of result.json; {} while the run isn't over.
        names: the chosen `algo` and `env`.
        words: what was typed to start it, and to go on with it.
        cause: why it diverged, as `loss/policy is nan`, so far as that is known.
        blames_env: whether that came from the environment.
    """

    curves: Mapping[str, Curve]
    config: Mapping[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    cause: str = ""
    blames_env: bool = False

    def values(self, tag: str) -> np.ndarray:
        """Return a curve's values [K]; none where it isn't logged."""
        return self.curves[tag].values if tag in self.curves else np.zeros(0)

    def has(self, tag: str, points: int = 3) -> bool:
        """Tell whether a curve has at least so many points."""
        return len(self.values(tag)) >= points

    def late(self, tag: str, share: float = 0.5) -> np.ndarray:
        """Return the last share of a curve's values."""
        values = self.values(tag)
        return values[len(values) - math.ceil(share * len(values)) :]

    def setting(self, key: str, default: Any = None) -> Any:
        """Return a setting; the default where the config hasn't the key, or it is null."""
        value = self.config.get(key, default)
        return default if value in (None, "None") else value

    def number(self, key: str) -> float | None:
        """Return a setting that is a number; None where it is something else, a schedule for example."""
        value = self.config.get(key)
        return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None

    def choose(self, *words: str) -> tuple[str, ...]:
        """Keep the words `key=value` whose key this run's config has and whose value differs."""
        kept = []
        for word in words:
            key, _, value = word.partition("=")
            if key in self.config and str(self.config[key]).lower() != value.lower():
                kept.append(word)
        return tuple(kept)

    def tags(self, prefix: str) -> list[str]:
        """List the curves whose name begins so: `schedule/lr` and `schedule/lr_actor`, for example."""
        return [tag for tag in self.curves if tag.startswith(prefix)]

    @property
    def last_step(self) -> int:
        """The environment step of the curves' last point; 0 where there is none."""
        return max((int(curve.steps[-1]) for curve in self.curves.values() if len(curve.steps)), default=0)

    @property
    def steps(self) -> int:
        """Environment steps of the run, so far as is known."""
        return int(self.result.get("env_steps") or self.last_step)

    @cached_property
    def learning(self) -> bool:
        """Whether the return in training, or that of evaluations, has risen beyond its noise."""
        return self.risen(RETURN) or self.risen(EVALUATION) or self.evaluated_better

    @property
    def last_evaluation(self) -> float | None:
        """The mean return of the latest evaluation; None where there was none."""
        final, values = self.result.get("eval_return_mean"), self.values(EVALUATION)
        return float(final) if isinstance(final, (int, float)) else float(values[-1]) if len(values) else None

    @cached_property
    def evaluated_better(self) -> bool:
        """Whether the latest evaluation is clearly above training's first returns, and above the first evaluation.

        Evaluations are few, so that their noise is that within the last one. A policy without its noise may be better
        than with it although nothing was learnt: where there is but one evaluation, it has to be twice as good, and
        where actions may cost something (returns below 0), training has to be on its way, too.
        """
        last, values = self.last_evaluation, self.values(EVALUATION)
        if last is None or not self.has(RETURN, 2):
            return False
        began, ended, noise = self.rise(RETURN)
        fewer = self.number("eval.episodes") or 1.0
        shares = 1.0 / (self.result.get("eval_episodes") or fewer) + (1.0 / fewer if len(values) > 1 else 0.0)
        error = math.sqrt(shares) * float(self.result.get("eval_return_std") or 0.0)
        if len(values) > 1:
            return all(last - x > max(NOISES * error, CLEAR * abs(x)) for x in (began, float(values[0])))
        share = DOUBLE if began > 0.0 else DOUBLE / 2.0
        return last - began > max(NOISES * error, share * abs(began)) and (began > 0.0 or ended - began > noise)

    def rise(self, tag: str) -> tuple[float, float, float]:
        """Return a curve's mean at its start and at its end, and the standard error of the difference."""
        values = self.values(tag)
        first = values[: max(1, math.floor(START * len(values)))]
        last = values[len(values) - max(1, math.floor(END * len(values))) :]
        noise = 1.4826 * float(np.median(np.abs(np.diff(values)))) / math.sqrt(2.0)
        error = noise * math.sqrt(1.0 / len(first) + 1.0 / len(last))
        return float(first.mean()), float(last.mean()), error

    def risen(self, tag: str) -> bool:
        """Whether a curve ends higher than it begins, by more than its noise from point to point."""
        if not self.has(tag):
            return False
        first, last, error = self.rise(tag)
        return last - first > max(NOISES * error, SHARE * abs(first))

    def lasting(self) -> str:
        """Say in a sentence how the return went."""
        tag = RETURN if self.has(RETURN) else EVALUATION
        if not self.has(tag):
            seen = {tag: len(self.values(tag)) for tag in (RETURN, EVALUATION) if self.has(tag, 1)}
            for tag, points in seen.items():
                return f"{tag} has {points} point{'s' * (points != 1)}, which is too few to tell whether it learns"
            return "no episode has ended yet that would tell whether it learns"
        first, last, _ = self.rise(tag)
        if self.learning and not self.risen(tag):
            if not self.risen(EVALUATION):
                return self.better_evaluation()
            tag = EVALUATION
            first, last, _ = self.rise(tag)
        if not self.learning:
            return f"{tag} does not rise beyond its noise: {first:.4g} at the start, {last:.4g} at the end"
        return f"it learns: {tag} went from {first:.4g} to {last:.4g}"

    def better_evaluation(self) -> str:
        """Say in a sentence how much better than the start the latest evaluation is."""
        values, last = self.values(EVALUATION), self.last_evaluation or 0.0
        went = f"went from {values[0]:.4g} to {last:.4g}" if len(values) > 1 else f"is {last:.4g}"
        return f"it learns: {EVALUATION} {went}, and {RETURN} began at {self.rise(RETURN)[0]:.4g}"


def span(curve: Curve) -> str:
    """Say over which steps a curve goes."""
    return f"steps {curve.steps[0]:,} to {curve.steps[-1]:,}"
