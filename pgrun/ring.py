"""A ring over time of all environments' transitions, and samples of them over one or several steps.

Shapes: B environments, L time rows in the ring, N = L·B transitions, numbered t·B + b; k samples of M rows at once.
Rewards and discounts of several agents have one more axis at their end, …, which is empty where there is one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from pgrun.types import Obs, Transition, map_obs, map_transition

Fields = dict[str, Tensor]
Segments = list[tuple[int, int, int]]  # (first row of the ring, first row of the source, how many)


class Ring:
    """The last L time rows of B environments. Memory is touched as rows are first written.

    Args:
        like: a rollout [T, B, ...] of what is to be kept.
        length: L.
        n: how many steps a sample may run over.
        gamma: γ of several steps.
        once: keep an observation once: a row's successor is the next row's, except where it is not (see `Frames`).
    """

    def __init__(self, like: Transition, *, length: int, n: int, gamma: float, once: bool) -> None:
        self.length, self.b, self.n, self.gamma = length, like.reward.shape[1], n, gamma
        self.rows = length * self.b  # N
        self.device = like.reward.device
        self.like = map_transition(lambda x: x[:1].clone(), like)
        self.position = self.filled = 0  # the time row to write next; time rows written
        self.size = 0  # valid transitions
        self.valid = self.empty(torch.bool)
        self.order: Tensor | None = None  # once a row was invalid: the valid ones' numbers, from `oldest` on, modulo N
        self.oldest = 0
        self.keys = list(like.obs) if isinstance(like.obs, dict) else None
        self.once = once
        fields = self.fields(like, like.last)
        later = {name for name in fields if n > 1 and name.partition(".")[0] == "next_obs"}
        outcome = {"reward", "discount", "onward"} if n > 1 else set()
        self.here = Table({name: x for name, x in fields.items() if name not in later | outcome}, self.rows)
        self.there = Table({name: fields[name] for name in sorted(later)}, self.rows)
        self.outcome = Table({name: fields[name] for name in sorted(outcome)}, self.rows)
        self.outcome.matrix.zero_()  # windows read past the newest row, with weight 0, which would not make a NaN 0
        self.tables = [table for table in (self.here, self.there, self.outcome) if table.names]
        self.frames = Frames(like.obs, self.rows, self.b) if once else None
        self.extras: Fields = {}
        self.beyond: Obs = None  # [B, *O]: the newest rows' successors
        self.onward: Tensor | None = None  # [B]: what the rewards after them count for, should they be joined
        self.ahead = torch.arange(n, device=self.device).unsqueeze(-1) * self.b  # [n, 1]
        self.true: dict[Any, Tensor] = {}

    def empty(self, dtype: torch.dtype, *shape: int) -> Tensor:
        """[N, *shape], not yet touched."""
        return torch.empty(self.rows, *shape, dtype=dtype, device=self.device)

    def fields(self, rollout: Transition, end: Tensor) -> Fields:
        """What the tables keep of a rollout, by name, each [T, B, ...]; `end` [T, B]: no window goes on after it."""
        found = {"action": rollout.action, "reward": rollout.reward, "discount": rollout.discount}
        if self.n == 1:
            found["last"] = rollout.last.float()
        else:
            found["onward"] = self.gamma * onwards(rollout.discount, ~end)  # what the rewards after it count for
        if not self.once:
            for name, obs in (("obs", rollout.obs), ("next_obs", rollout.next_obs)):
                found |= {f"{name}.{key}": x for key, x in obs.items()} if isinstance(obs, dict) else {name: obs}
        return found

    # ------------------------------------------------------------ writing

    def add(self, rollout: Transition) -> int:
        """Take a rollout [T, B, ...], T ≤ L; -> how many of its rows are valid."""
        t = rollout.reward.shape[0]
        segments = self.segments(t)
        end = rollout.last
        if self.n > 1 or self.frames is not None:
            # a row's successor need not be the next one's observation: after a reset, or where a run was resumed
            joined = torch.cat([equal(rollout.next_obs, rollout.obs, ahead=1), torch.zeros_like(end[:1])])
            self.join(rollout)
            if self.frames is not None:
                self.frames.forget(segments)
                self.frames.write(segments, rollout, joined)
            end = end | ~rollout.valid
            self.beyond = map_obs(lambda x: x[-1].clone(), rollout.next_obs)
            self.onward = self.gamma * onwards(rollout.discount[-1], ~end[-1])
            end = end | ~joined  # the newest row too, until there is a newer one
        self.forget(segments)
        fields = self.fields(rollout, end)
        for table in self.tables:
            table.write(fields, segments)
        if rollout.extras or self.extras:
            self.write_extras(rollout.extras, segments)
        count = self.write_valid(rollout.valid, segments)
        self.position = (self.position + t) % self.length
        self.filled = min(self.filled + t, self.length)
        return count

    def segments(self, t: int) -> Segments:
        """Where the next t time rows go: one piece, or two around the ring's end."""
        head, b = min(t, self.length - self.position), self.b
        pieces = [(self.position * b, 0, head * b), (0, head * b, (t - head) * b)]
        return pieces if t > head else pieces[:1]

    def newest(self, t: int) -> Tensor:
        """The numbers of the last t time rows, [t·B], oldest first."""
        first = (self.position - t) % self.length * self.b
        return (first + torch.arange(t * self.b, device=self.device)) % self.rows

    def join(self, rollout: Transition) -> None:
        """Go on from the newest rows, where the rollout's observations are their successors."""
        if self.onward is None:
            return
        joined = equal(self.beyond, rollout.obs, first=True)
        before = (self.position - 1) % self.length * self.b
        if self.n > 1:
            self.outcome.put("onward", before, onwards(self.onward, joined))
        if self.frames is not None:
            self.frames.join(before, self.position * self.b, joined, self.valid[before : before + self.b])

    def forget(self, segments: Segments) -> None:
        """Take what is about to be overwritten off the count."""
        for at, _, n in segments:
            there = max(min(n, self.filled * self.b - at), 0)
            gone = int(self.valid[at : at + there].sum()) if there and self.order is not None else there
            self.size -= gone
            self.oldest += gone

    def write_valid(self, valid: Tensor, segments: Segments) -> int:
        """Note which rows may be sampled; -> how many."""
        flat = valid.flatten()
        for at, start, n in segments:
            self.valid[at : at + n] = flat[start : start + n]
        count = len(flat)
        if self.order is None and not bool(flat.all()):
            self.number_valid(segments)
        if self.order is not None:
            parts = [flat[start : start + n].nonzero().squeeze(-1) + at for at, start, n in segments]
            fresh = torch.cat(parts)
            count = len(fresh)
            self.order[(self.oldest + self.size + torch.arange(count, device=self.device)) % self.rows] = fresh
        self.size += count
        return count

    def number_valid(self, segments: Segments) -> None:
        """Begin to keep the valid rows' numbers: all that were there before these segments."""
        self.order, self.oldest = self.empty(torch.long), 0
        after = self.position * self.b + sum(n for *_, n in segments)
        first = after if self.filled == self.length or after > self.rows else 0
        self.order[: self.size] = (first + torch.arange(self.size, device=self.device)) % self.rows

    def write_extras(self, extras: Fields, segments: Segments) -> None:
        """Keep what `act` recorded; zero where it recorded nothing, as for random actions."""
        for key, x in extras.items():
            if key not in self.extras:
                self.extras[key] = torch.zeros(self.rows, *x.shape[2:], dtype=x.dtype, device=self.device)
        for key, ring in self.extras.items():
            for at, start, n in segments:
                ring[at : at + n] = extras[key].flatten(0, 1)[start : start + n] if key in extras else 0

    # ------------------------------------------------------------ sampling

    def locate(self, rank: Tensor) -> Tensor:
        """The numbers of valid rows, by their ranks in [0, size)."""
        return rank if self.order is None else self.order[(rank + self.oldest) % self.rows]

    def gather(self, index: Tensor, k: int, device: torch.device) -> list[Transition]:
        """The transitions at `index` [k·M] over up to n steps, as k samples [M, ...] on a device."""
        samples = self.here.take(index, k, device)
        final = index
        if self.n > 1:
            window, final = self.window(index)
            add(samples, self.there.take(final, k, device))
            add(samples, split(window, k, device))
        if self.frames is not None:
            add(samples, split(self.frames.take("obs", index), k, device))
            add(samples, split(self.frames.take("next_obs", self.frames.after(final)), k, device))
        extras = split({key: ring.index_select(0, index) for key, ring in self.extras.items()}, k, device)
        true = self.ones(len(index) // k, device)
        return [self.transition(x, more, true) for x, more in zip(samples, extras, strict=True)]

    def transition(self, x: Fields, extras: Fields, true: Tensor) -> Transition:
        """One sample from its fields."""
        obs, next_obs = ({k: x[f"{n}.{k}"] for k in self.keys} if self.keys else x[n] for n in ("obs", "next_obs"))
        last = x["last"].to(torch.bool)
        return Transition(obs, x["action"], x["reward"], x["discount"], next_obs, last, true, extras)

    def ones(self, m: int, device: torch.device) -> Tensor:
        """[M] bool, the same one each time."""
        if (m, device) not in self.true:
            self.true[m, device] = torch.ones(m, dtype=torch.bool, device=device)
        return self.true[m, device]

    def window(self, index: Tensor) -> tuple[Fields, Tensor]:
        """Rewards and discounts over windows from `index` [K] on, and the number of each one's last row [K]."""
        path = (index + self.ahead) % self.rows  # [n, K]
        x = self.outcome.take(path.view(-1), 1, self.device)[0]
        reward, discount, onward = (x[name].unflatten(0, path.shape) for name in ("reward", "discount", "onward"))
        weight = torch.cat([torch.ones_like(onward[:1]), onward[:-1].cumprod(0)])  # γ^k Π_{j<k} d_j, 0 past the window
        goes_on = weight[1:] > 0
        m = (goes_on.flatten(2).any(-1) if onward.dim() > 2 else goes_on).sum(0, keepdim=True)  # steps before its last
        last = [rows_of(x, m) for x in (path, weight * discount, onward)]
        end = (last[2] == 0).flatten(1).all(-1) if onward.dim() > 2 else last[2] == 0
        return {"reward": (weight * reward).sum(0), "discount": last[1], "last": end}, last[0]

    # ------------------------------------------------------------ saving

    def snapshot(self) -> dict[str, Any]:
        """As tensors and plain values, that no later step changes."""
        n = self.filled * self.b
        return {
            "like": self.like._asdict(),
            "position": self.position,
            "filled": self.filled,
            "size": self.size,
            "valid": self.valid[:n].clone(),
            "ordered": self.order is not None,
            "tables": [table.snapshot(n) for table in self.tables],
            "extras": {key: x[:n].clone() for key, x in self.extras.items()},
            "frames": None if self.frames is None else self.frames.snapshot(n),
            "beyond": self.beyond,
            "onward": self.onward,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Put a snapshot back."""
        self.position, self.filled, self.size = state["position"], state["filled"], state["size"]
        n = self.filled * self.b
        self.valid[:n] = state["valid"].to(self.device)
        for table, saved in zip(self.tables, state["tables"], strict=True):
            table.restore(saved, n)
        for key, x in state["extras"].items():
            self.extras[key] = torch.zeros(self.rows, *x.shape[1:], dtype=x.dtype, device=self.device)
            self.extras[key][:n] = x
        if self.frames is not None:
            self.frames.restore(state["frames"], n)
        if state["onward"] is not None:
            self.beyond = map_obs(lambda x: x.to(self.device), state["beyond"])
            self.onward = state["onward"].to(self.device)
        if state["ordered"]:
            chronological = self.newest(self.filled)
            self.order, self.oldest = self.empty(torch.long), 0
            self.order[: self.size] = chronological[self.valid[chronological]]


class Table:
    """Rows of named fields. Those of float32 lie side by side in one matrix: a sample of them is one gather."""

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
        """Change one field of the rows from `at` on; x [n, …]."""
        i = list(self.floats).index(name)
        column = sum(self.widths[:i])
        self.matrix[at : at + len(x), column : column + self.widths[i]] = x.reshape(len(x), -1)

    def take(self, index: Tensor, k: int, device: torch.device) -> list[Fields]:
        """The rows at `index` [k·M], as k samples [M, ...]."""
        samples = split({name: x.index_select(0, index) for name, x in self.others.items()}, k, device)
        if self.floats:
            (matrix,) = moved([self.matrix.index_select(0, index)], device)
            for fields, part in zip(samples, matrix.chunk(k) if k > 1 else (matrix,), strict=True):
                columns = part.split_with_sizes(self.widths, 1)
                for (name, shape), x in zip(self.floats.items(), columns, strict=True):
                    fields[name] = x if len(shape) == 1 else x.unflatten(1, shape) if shape else x.squeeze(1)
        return samples

    def snapshot(self, n: int) -> dict[str, Any]:
        """The first n rows."""
        return {"matrix": self.matrix[:n].clone(), "others": {name: x[:n].clone() for name, x in self.others.items()}}

    def restore(self, state: dict[str, Any], n: int) -> None:
        """Put n rows back."""
        self.matrix[:n] = state["matrix"]
        for name, x in self.others.items():
            x[:n] = state["others"][name]


class Frames:
    """Observations of a ring's rows, each once. A row's successor is the next row's observation, except where that is
    another one (the episode ended and was begun anew at once): such a successor is kept apart, as long as its row is
    there. The newest rows have theirs in B rows behind the ring.
    """

    def __init__(self, like: Obs, rows: int, b: int) -> None:
        self.rows, self.b = rows, b
        parts = like if isinstance(like, dict) else {"": like}
        self.device = next(iter(parts.values())).device
        self.parts = {
            key: torch.empty(rows + b, *x.shape[2:], dtype=x.dtype, device=x.device) for key, x in parts.items()
        }
        self.next = torch.zeros(rows, dtype=torch.long, device=self.device)  # where a successor is; −1 − i: i-th apart
        self.apart = {key: x[:0].clone() for key, x in self.parts.items()}  # a ring too: the i-th at i modulo its size
        self.first = self.end = 0  # the i-ths that are there

    def write(self, segments: Segments, rollout: Transition, joined: Tensor) -> None:
        """Write a rollout [T, B, ...]; `joined` [T, B]: the row after it goes on where it ended."""
        obs, successors = (x if isinstance(x, dict) else {"": x} for x in (rollout.obs, rollout.next_obs))
        for key, x in obs.items():
            for at, start, n in segments:
                self.parts[key][at : at + n] = x.flatten(0, 1)[start : start + n]
            self.parts[key][self.rows :] = successors[key][-1]
        numbers = torch.cat([torch.arange(at, at + n, device=self.device) for at, _, n in segments])
        self.next[numbers] = (numbers + self.b) % self.rows
        self.next[numbers[-self.b :]] = self.rows + torch.arange(self.b, device=self.device)
        odd = ~joined & rollout.valid
        odd[-1] = False
        odd = odd.flatten().nonzero().squeeze(-1)
        self.keep(numbers[odd], {key: x.flatten(0, 1)[odd] for key, x in successors.items()})

    def join(self, before: int, at: int, joined: Tensor, valid: Tensor) -> None:
        """The rows from `before` on were the newest; those from `at` on will be: what were their successors?"""
        numbers = torch.arange(self.b, device=self.device)
        self.next[before : before + self.b] = at + numbers
        odd = (~joined & valid).nonzero().squeeze(-1)
        self.keep(before + odd, {key: x[self.rows + odd] for key, x in self.parts.items()})

    def keep(self, numbers: Tensor, successors: Fields) -> None:
        """Keep successors [K, *O] of the rows `numbers` [K] apart."""
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
        """Observations [K, *O] at the places `index` [K], by the name of their part."""
        found = {}
        odd = (index < 0).nonzero().squeeze(-1) if self.end > self.first else None
        for key, x in self.parts.items():
            obs = x.index_select(0, index.clamp(min=0))
            if odd is not None and len(odd):
                obs[odd] = self.apart[key][(-1 - index[odd]) % len(self.apart[key])]
            found[f"{name}.{key}" if key else name] = obs
        return found

    def after(self, index: Tensor) -> Tensor:
        """Where the successors of the rows `index` [K] are."""
        return self.next.index_select(0, index)

    def snapshot(self, n: int) -> dict[str, Any]:
        """The first n rows, what is behind the ring, and what is apart."""
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
        """Put n rows back."""
        self.first = self.end = state["first"]
        self.next[:n] = state["next"]
        for key, x in self.parts.items():
            x[:n], x[self.rows :] = state["parts"][key], state["beyond"][key]
        self.grow(state["end"] - state["first"])
        self.end = state["end"]
        i = torch.arange(self.first, self.end, device=self.device)
        for key, x in self.apart.items():
            x[i % max(len(x), 1)] = state["apart"][key].to(self.device)


def onwards(discount: Tensor, goes_on: Tensor) -> Tensor:
    """What rewards after a row count for: discounts [..., B, …] where it goes on [..., B], else 0."""
    return discount * (goes_on if discount.dim() == goes_on.dim() else goes_on.unsqueeze(-1))


def rows_of(x: Tensor, row: Tensor) -> Tensor:
    """The elements of x [n, K, …] at the rows [1, K] of its first axis; -> [K, …]."""
    if x.dim() > 2:
        row = row.unsqueeze(-1).expand(1, *x.shape[1:])
    return x.gather(0, row).squeeze(0)


def moved(fields: Iterable[Tensor], device: torch.device) -> list[Tensor]:
    """The same on a device."""
    return [x if x.device == device else x.to(device, non_blocking=True) for x in fields]


def split(fields: Fields, k: int, device: torch.device) -> list[Fields]:
    """Fields [k·M, ...] as k of [M, ...] on a device."""
    if not fields:
        return [{} for _ in range(k)]
    parts = [x.chunk(k) if k > 1 else (x,) for x in moved(fields.values(), device)]
    return [dict(zip(fields, each, strict=True)) for each in zip(*parts, strict=True)]


def add(samples: list[Fields], more: list[Fields]) -> None:
    """Add fields to samples, one by one."""
    for x, y in zip(samples, more, strict=True):
        x |= y


def equal(before: Obs, after: Obs, *, ahead: int = 0, first: bool = False) -> Tensor:
    """Whether observations are the same: each [T, B, *O] and the one `ahead` after it -> [T − ahead, B]; or, with
    `first`, [B, *O] and the first of the others -> [B].
    """
    found: list[Tensor] = []

    def compare(x: Tensor, y: Tensor) -> None:
        y = y[0] if first else y[ahead:]
        x = x if first else x[: len(x) - ahead]
        same = x == y
        lead = 1 if first else 2
        found.append(same.flatten(lead).all(-1) if same.dim() > lead else same)

    map_obs(compare, before, after)
    return torch.stack(found).all(0) if len(found) > 1 else found[0]
