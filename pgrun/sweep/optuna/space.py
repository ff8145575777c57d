"""Search spaces: Hydra's sweep overrides as distributions of Optuna."""

from __future__ import annotations

from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    IntervalSweep,
    Override,
    QuotedString,
    RangeSweep,
)


def search_space(overrides: list[str]) -> tuple[dict[str, tuple[Any, dict[str, str]]], list[str]]:
    """Split overrides into those that are searched and those that are fixed.

    If a key is given twice, the last one counts: the command line's over a file's.

    Returns:
        For each searched key its distribution and the texts of its choices; and the fixed overrides.
    """
    given: dict[str, Override] = {}
    for override in OverridesParser.create().parse_overrides(overrides):
        given.pop(override.key_or_group, None)
        given[override.key_or_group] = override
    search, fixed = {}, []
    for override in given.values():
        if override.is_sweep_override():
            search[override.get_key_element()] = distribution(override)
        else:
            fixed.append(str(override.input_line))
    return search, fixed


def distribution(override: Override) -> tuple[Any, dict[str, str]]:
    """Convert a swept override to a distribution of Optuna.

    Returns:
        The distribution, and the text of each choice.

    Raises:
        UserError: Optuna has no such distribution.
    """
    from pgrun.errors import UserError

    value: Any = override.value()
    try:
        if isinstance(value, ChoiceSweep):
            return choices(override)
        return numbers(value), {}
    except (ValueError, ZeroDivisionError) as error:
        raise UserError(f"{override.input_line} can't be searched: {error}") from error


def numbers(value: Any) -> Any:
    """Return Optuna's distribution over an interval or a range.

    Raises:
        ValueError: Optuna has no such distribution.
    """
    from optuna.distributions import FloatDistribution, IntDistribution

    log = "log" in getattr(value, "tags", ())
    if isinstance(value, IntervalSweep):
        low, high = _ends(value.start, value.end)
        if isinstance(low, int) and isinstance(high, int):
            return IntDistribution(low, high, log=log)
        return FloatDistribution(low, high, log=log)
    if not isinstance(value, RangeSweep):
        raise ValueError("Optuna takes choice, interval and range")
    low, high, step = *_ends(value.start, value.stop), value.step
    if isinstance(low, int) and isinstance(high, int) and isinstance(step, int):
        return IntDistribution(low, high - (high - low) % step, log=log, step=1 if log else step)
    return FloatDistribution(low, high, step=step)


def _ends(low: float | None, high: float | None) -> tuple[float, float]:
    """Return both ends of an interval; raise ValueError if one is missing."""
    if low is None or high is None:
        raise ValueError("it has no end")
    return low, high


def choices(override: Override) -> tuple[Any, dict[str, str]]:
    """Return Optuna's distribution over choices, and the text of each."""
    from optuna.distributions import CategoricalDistribution

    value: Any = override.value()
    texts = list(override.sweep_string_iterator())
    plain = [v.text if isinstance(v, QuotedString) else v for v in value.list]
    values = [v if isinstance(v, (bool, int, float, str)) else t for v, t in zip(plain, texts, strict=True)]
    return CategoricalDistribution(values), dict(zip(map(str, values), texts, strict=True))
