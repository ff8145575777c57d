"""Numbers of `info`, reduced to one an episode.

Shapes: B environments.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from pgrun.data.plain import decode, encode

Over = Literal["last", "mean", "sum"]  # how an episode's values become one: that of its last step, their mean or sum
SUCCESS = "is_success"  # read without being asked for: whether an episode reached its goal


def curve(key: str) -> str:
    """Name the curve of a key of `info`."""
    return "success_rate" if key == SUCCESS else f"info/{key}"


def number_of(value: Any) -> float | None:
    """Return a value of `info` as a number; None where it is none."""
    if isinstance(value, (bool, int, float, np.generic)) or (isinstance(value, np.ndarray) and value.size == 1):
        a = np.asarray(value)
        if a.dtype.kind in "biuf":
            return float(a.reshape(-1)[0])
    return None


def numbers_in(info: Any, keys: Mapping[str, Over]) -> dict[str, float]:
    """Return the numbers that one copy's `info` has under these keys."""
    if not isinstance(info, Mapping):
        return {}
    found = {key: number_of(info[key]) for key in keys if key in info}
    return {key: x for key, x in found.items() if x is not None}


class EpisodeInfos:
    """Reduces what `info` says at each step to one number an episode, in each of B copies.

    Args:
        keys: how to reduce each key that is read.
        num_envs: B.
    """

    def __init__(self, keys: Mapping[str, Over], num_envs: int) -> None:
        self.keys, self.num_envs = {SUCCESS: "last", **keys}, num_envs
        self.sums = {key: np.zeros((2, num_envs)) for key, over in self.keys.items() if over != "last"}

    def begin(self) -> None:
        """Forget the open episodes."""
        for sums in self.sums.values():
            sums[:] = 0.0

    def read(self, info: Mapping[str, Any], over: np.ndarray, valid: np.ndarray) -> dict[str, Tensor]:
        """Read one step.

        Args:
            info: of all copies: `numbers`, a dict of each copy's, or arrays [B] as Gymnasium's own vector environments
                have them.
            over: [B] bool, whose episode ends with this step.
            valid: [B] bool, whose step counts.

        Returns:
            The numbers of the episodes that end here, by their curves' names: each [B], NaN where none ends.
        """
        ending = bool(over.any())
        if not self.sums and not ending:
            return {}
        result = {}
        for key in self.keys:
            if (x := self.values(info, key)) is None and key not in self.sums:
                continue
            x = np.full(self.num_envs, np.nan) if x is None else x
            if key in self.sums:
                known = ~np.isnan(x) & valid
                self.sums[key] += np.stack([np.where(known, x, 0.0), known])
            if ending:
                result[curve(key)] = torch.from_numpy(np.where(over, self.reduced(key, x), np.nan))
        if ending:
            for sums in self.sums.values():
                sums[:, over] = 0.0
        return {name: x for name, x in result.items() if not bool(x.isnan().all())}

    def values(self, info: Mapping[str, Any], key: str) -> np.ndarray | None:
        """Find a key's values [B] of one step, NaN where a copy has none; None where no copy has any."""
        if (numbers := info.get("numbers")) is not None:
            if not any(own and key in own for own in numbers):
                return None
            return np.array([(own or {}).get(key, np.nan) for own in numbers])
        found, final = self.array(info, key), info.get("final_info")
        last = self.array(final, key) if isinstance(final, Mapping) else None
        if found is None or last is None:
            return found if last is None else last
        return np.where(np.isnan(last), found, last)

    def array(self, info: Mapping[str, Any], key: str) -> np.ndarray | None:
        """Read a key's array [B] as Gymnasium's vector environments have it, NaN where its mask says there is none."""
        value, there = info.get(key), info.get(f"_{key}")
        if not isinstance(value, np.ndarray) or value.shape != (self.num_envs,) or value.dtype.kind not in "biuf":
            return None
        return np.where(True if there is None else there, value.astype(np.float64), np.nan)

    def reduced(self, key: str, x: np.ndarray) -> np.ndarray:
        """Return a key's numbers of the open episodes [B], whose last step has the values x."""
        if key not in self.sums:
            return x
        total, count = self.sums[key]
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = total / count  # NaN where there was no value
        return mean if self.keys[key] == "mean" else np.where(count > 0, total, np.nan)

    def snapshot(self) -> dict[str, Any]:
        """Return the open episodes' sums as plain values."""
        return {key: encode(sums) for key, sums in self.sums.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore a snapshot."""
        for key, sums in state.items():
            if key in self.sums:
                self.sums[key] = decode(sums)
