"""The seeds of a trial, and the single value that is computed from their evaluations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override

WAYS = ("mean", "iqm")


def check_aggregate(how: str) -> None:
    """Raise UserError if there is no such way to combine several values."""
    from pgrun.errors import UserError

    if how not in WAYS:
        raise UserError(f"hydra.sweeper.over_seeds={how} is not known; choose one of {', '.join(WAYS)}")


def aggregate(values: Sequence[float], how: str) -> float:
    """Combine the values of several seeds: their mean, or the mean of the middle half (iqm)."""
    ordered = sorted(values)
    cut = len(ordered) // 4 if how == "iqm" else 0
    kept = ordered[cut : len(ordered) - cut]
    return sum(kept) / len(kept)


def trial_seeds(overrides: list[str], seeds: Any) -> tuple[list[int], list[str]]:
    """Find the seeds of each trial.

    Args:
        overrides: the sweep's: `seed=0,1` gives the seeds, `seed=10` the first of them.
        seeds: hydra.sweeper.seeds: how many, or which.

    Returns:
        The seeds, [] where a trial is one job; and the remaining overrides.

    Raises:
        UserError: the seeds are given twice, or are no seeds.
    """
    from pgrun.errors import UserError

    parsed = OverridesParser.create().parse_overrides(overrides)
    given = [override for override in parsed if override.key_or_group == "seed"]
    last = given[-1] if given else None
    rest = [text for text, override in zip(overrides, parsed, strict=True) if override not in given]
    swept = last is not None and last.is_sweep_override()
    if swept and seeds is not None:
        raise UserError(f"{last.input_line} and hydra.sweeper.seeds={shown(seeds)} both say the seeds: give one")  # type: ignore[union-attr]
    if swept:
        return listed(last), rest  # type: ignore[arg-type]
    if seeds is None:
        return [], overrides
    if isinstance(seeds, int) and not isinstance(seeds, bool):
        first = 0 if last is None else int(last.value())  # type: ignore[arg-type]
        return checked(list(range(first, first + seeds)), f"hydra.sweeper.seeds={seeds}"), rest
    if last is not None:
        raise UserError(f"{last.input_line} and hydra.sweeper.seeds={shown(seeds)} both say the seeds: give one")
    named = f"hydra.sweeper.seeds={shown(seeds)}"
    return checked(list(seeds) if not isinstance(seeds, (str, bool)) else [seeds], named), rest


def listed(override: Override) -> list[int]:
    """Read the seeds that `seed=0,1` or `seed=range(3)` gives."""
    from pgrun.errors import UserError

    if isinstance(override.value(), IntervalSweep):
        raise UserError(f"{override.input_line}: a seed isn't searched; give each trial's, as seed=0,1,2")
    texts = list(override.sweep_string_iterator())
    return checked([int(text) if text.isdecimal() else text for text in texts], str(override.input_line))


def checked(seeds: list[Any], named: str) -> list[int]:
    """Return the seeds, or raise UserError if they are not distinct whole numbers."""
    from pgrun.errors import UserError

    whole = all(isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0 for seed in seeds)
    if not seeds or not whole or len(set(seeds)) < len(seeds):
        raise UserError(f"{named} should be how many seeds a trial has, or which: whole numbers, as [0,1,2]")
    return seeds


def shown(seeds: Any) -> str:
    """Format hydra.sweeper.seeds as on the command line."""
    return str(seeds) if isinstance(seeds, (int, str)) else f"[{','.join(map(str, seeds))}]"
