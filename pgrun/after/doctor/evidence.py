"""A run's curves, config and result, with the few questions that rules ask of them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pgrun.config.tuning import overrides_of
from pgrun.errors import UserError
from pgrun.run.curves import Curve, read_curves
from pgrun.run.directory import flat, hydra_of, load_run

RETURN, EVALUATION = "train/return", "eval/return"
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
        words: what was typed to start it.
    """

    curves: Mapping[str, Curve]
    config: Mapping[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    words: tuple[str, ...] = ()

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
    def steps(self) -> int:
        """Environment steps of the run, so far as is known."""
        known = [int(curve.steps[-1]) for curve in self.curves.values() if len(curve.steps)]
        return int(self.result.get("env_steps") or max(known, default=0))

    @cached_property
    def learning(self) -> bool:
        """Whether the return in training, or that of evaluations, has risen beyond its noise."""
        return self.risen(RETURN) or self.risen(EVALUATION)

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
            tag = EVALUATION
            first, last, _ = self.rise(tag)
        if not self.learning:
            return f"{tag} does not rise beyond its noise: {first:.4g} at the start, {last:.4g} at the end"
        return f"it learns: {tag} went from {first:.4g} to {last:.4g}"


def gather(folder: Path, *, trust: bool = False) -> Evidence:
    """Read what a run left in its directory.

    Raises:
        UserError: it is no run directory, or its result can't be read.
    """
    config, names = load_run(folder, trust=trust)
    hydra = hydra_of(folder)
    path = folder / "result.json"
    try:
        result = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError as error:
        raise UserError(f"{path} can't be read: {error}") from error
    words = () if hydra is None else tuple(overrides_of(hydra))
    return Evidence(read_curves(folder), flat(config), result if isinstance(result, dict) else {}, names, words)


def span(curve: Curve) -> str:
    """Say over which steps a curve goes."""
    return f"steps {curve.steps[0]:,} to {curve.steps[-1]:,}"
