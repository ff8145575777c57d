"""Storage of a ring's rows: named fields side by side, and observations that are kept once.

Shapes: B environments, N rows of the ring, K = k·M of k samples at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from pgrun.data.types import Obs, Transition

Fields = dict[str, Tensor]
Segments = list[tuple[int, int, int]]  # (first row of the ring, first row of the source, how many)


class Table:
    """Rows of named fields. Those of float32 lie side by side in one matrix, so that a sample of them is one gather."""

    def __init__(self, like: Fields, rows: int) -> None:
        self.names = list(like)
        self.floats = {name: tuple(x.shape[2:]) for name, x in like.items() if x.dtype == torch.float32}
        self.widths = [math.prod(shape) for shape in self.floats.values()]
        self.others = {
            name: torch.empty(rows, *x.shape[2:], dtype=x.dtype, device=x.device)
            for name, x in like.items()
            if name not in self.floats
        }
        device = next(iter(like.values())).device if like else None
        self.matrix = torch.empty(rows if self.floats else 0, sum(self.widths), device=device)

    def write(self, fields: Fields, segments: Segments) -> None:
        """Write the rows [T, B, ...] of its fields."""
        if self.floats:
            parts = [fields[name].reshape(-1, width) for name, width in zip(self.floats, self.widths, strict=True)]
            source = torch.cat(parts, 1)
            for at, start, n in segments:
                self.matrix[at : at + n] = source[start : start + n]
        for name, target in self.others.items():
            for at, start, n in segments:
                target[at : at + n] = fields[name].flatten(0, 1)[start : start + n]

    def put(self, name: str, at: int, x: Tensor) -> None:
        """Overwrite one field with x [n, …], in the rows from `at` on."""
        i = list(self.floats).index(name)
        column = sum(self.widths[:i])
        self.matrix[at : at + len(x), column : column + self.widths[i]] = x.reshape(len(x), -1)

    def take(self, index: Tensor, device: torch.device) -> Fields:
        """Return the rows at `index` [K], each field [K, ...] on a device."""
        fields = {name: x.index_select(0, index) for name, x in self.others.items()}
        if self.floats:
            (matrix,) = moved([self.matrix.index_select(0, index)], device)
            columns = matrix.split_with_sizes(self.widths, 1)
            for (name, shape), x in zip(self.floats.items(), columns, strict=True):
                fields[name] = x if len(shape) == 1 else x.unflatten(1, shape) if shape else x.squeeze(1)
        return fields

    def snapshot(self, n: int) -> dict[str, Any]:
        """Return the first n rows."""
        return {"matrix": self.matrix[:n].clone(), "others": {name: x[:n].clone() for name, x in self.others.items()}}

    def restore(self, state: dict[str, Any], n: int) -> None:
        """Restore the first n rows."""
        self.matrix[:n] = state["matrix"]
        for name, x in self.others.items():
            x[:n] = state["others"][name]


class Frames:
    """The observations of a ring's rows, each kept once.

    A row's successor is the next row's observation, unless the episode ended and was begun anew at once. Then the
    successor is kept apart, as long as its row is there. The newest rows have their successors in B rows behind the
    ring.
    """

    def __init__(self, like: Obs, rows: int, b: int) -> None:
        self.rows, self.num_envs = rows, b
        parts = like if isinstance(like, dict) else {"": like}
        self.device = next(iter(parts.values())).device
        self.parts = {
            key: torch.empty(rows + b, *x.shape[2:], dtype=x.dtype, device=x.device) for key, x in parts.items()
        }
        self.next = torch.zeros(rows, dtype=torch.long, device=self.device)  # successors' places; −1 − i: i-th apart
        self.apart = {key: x[:0].clone() for key, x in self.parts.items()}  # a ring too: the i-th at i modulo its size
        self.first = self.end = 0  # the range of i that are kept

    def write(self, segments: Segments, rollout: Transition, joined: Tensor) -> None:
        """Write a rollout [T, B, ...]; `joined` [T, B]: the next row goes on where this one ended."""
        obs, successors = (x if isinstance(x, dict) else {"": x} for x in (rollout.obs, rollout.next_obs))
        for key, x in obs.items():
            for at, start, n in segments:
                self.parts[key][at : at + n] = x.flatten(0, 1)[start : start + n]
            self.parts[key][self.rows :] = successors[key][-1]
        numbers = torch.cat([torch.arange(at, at + n, device=self.device) for at, _, n in segments])
        self.next[numbers] = (numbers + self.num_envs) % self.rows
        self.next[numbers[-self.num_envs :]] = self.rows + torch.arange(self.num_envs, device=self.device)
        is_apart = ~joined & rollout.valid
        is_apart[-1] = False
        apart = is_apart.flatten().nonzero().squeeze(-1)
        self.keep(numbers[apart], {key: x.flatten(0, 1)[apart] for key, x in successors.items()})

    def join(self, before: int, at: int, joined: Tensor, valid: Tensor) -> None:
        """Link the newest rows, from `before` on, to the rows about to be written, from `at` on.

        Args:
            before: number of the first of the newest rows.
            at: number of the first row to write.
            joined: [B] bool, where the row to write begins with the newest row's successor.
            valid: [B] bool, of the newest rows.
        """
        numbers = torch.arange(self.num_envs, device=self.device)
        self.next[before : before + self.num_envs] = at + numbers
        apart = (~joined & valid).nonzero().squeeze(-1)
        self.keep(before + apart, {key: x[self.rows + apart] for key, x in self.parts.items()})

    def keep(self, numbers: Tensor, successors: Fields) -> None:
        """Keep the successors [K, *O] of the rows `numbers` [K] apart."""
        k = len(numbers)
        if k == 0:
            return
        size = len(next(iter(self.apart.values())))
        if self.end - self.first + k > size:
            self.grow(max(2 * size, self.end - self.first + k, 16))
        i = torch.arange(self.end, self.end + k, device=self.device)
        for key, x in successors.items():
            self.apart[key][i % len(self.apart[key])] = x
        self.next[numbers] = -1 - i
        self.end += k

    def grow(self, size: int) -> None:
        """Make room for so many successors apart."""
        i = torch.arange(self.first, self.end, device=self.device)
        for key, x in self.apart.items():
            larger = torch.empty(size, *x.shape[1:], dtype=x.dtype, device=x.device)
            larger[i % size] = x[i % max(len(x), 1)]
            self.apart[key] = larger

    def forget(self, segments: Segments) -> None:
        """Drop the successors apart of rows that are about to be overwritten."""
        if self.end > self.first:
            for at, _, n in segments:
                self.first += int((self.next[at : at + n] < 0).sum())

    def take(self, name: str, index: Tensor) -> Fields:
        """Return the observations [K, *O] at the places `index` [K], by the names of their parts."""
        observations = {}
        apart = (index < 0).nonzero().squeeze(-1) if self.end > self.first else None
        for key, x in self.parts.items():
            obs = x.index_select(0, index.clamp(min=0))
            if apart is not None and len(apart):
                obs[apart] = self.apart[key][(-1 - index[apart]) % len(self.apart[key])]
            observations[f"{name}.{key}" if key else name] = obs
        return observations

    def after(self, index: Tensor) -> Tensor:
        """Return the places of the successors of the rows `index` [K]."""
        return self.next.index_select(0, index)

    def snapshot(self, n: int) -> dict[str, Any]:
        """Return the first n rows, those behind the ring, and the successors apart."""
        i = torch.arange(self.first, self.end, device=self.device)
        return {
            "parts": {key: x[:n].clone() for key, x in self.parts.items()},
            "beyond": {key: x[self.rows :].clone() for key, x in self.parts.items()},
            "next": self.next[:n].clone(),
            "apart": {key: x[i % max(len(x), 1)] for key, x in self.apart.items()},
            "first": self.first,
            "end": self.end,
        }

    def restore(self, state: dict[str, Any], n: int) -> None:
        """Restore the first n rows."""
        self.first = self.end = state["first"]
        self.next[:n] = state["next"]
        for key, x in self.parts.items():
            x[:n], x[self.rows :] = state["parts"][key], state["beyond"][key]
        self.grow(state["end"] - state["first"])
        self.end = state["end"]
        i = torch.arange(self.first, self.end, device=self.device)
        for key, x in self.apart.items():
            x[i % max(len(x), 1)] = state["apart"][key].to(self.device)


def moved(fields: Iterable[Tensor], device: torch.device) -> list[Tensor]:
    """Move tensors to a device."""
    return [x if x.device == device else x.to(device, non_blocking=True) for x in fields]


def split(fields: Fields, k: int, device: torch.device) -> list[Fields]:
    """Split fields [k·M, ...] into k samples [M, ...] on a device."""
    if not fields:
        return [{} for _ in range(k)]
    parts = [x.unflatten(0, (k, -1)).unbind() for x in moved(fields.values(), device)]
    return [dict(zip(fields, sample, strict=True)) for sample in zip(*parts, strict=True)]
