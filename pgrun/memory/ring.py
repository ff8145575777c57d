"""A ring over time of all environments' transitions, and samples of them over one or several steps.

Shapes: B environments, L time rows in the ring, N = L·B transitions, numbered t·B + b; k samples of M rows at once.
Rewards and discounts of several agents have a last axis of agents, written …; for one agent there is none.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pgrun.data.types import Obs, Transition, map_obs, map_transition
from pgrun.memory.storage import Fields, Frames, Segments, Table, split


class Ring:
    """The last L time rows of B environments. Memory is touched only as rows are first written.

    Args:
        like: a rollout [T, B, ...] of what is to be kept.
        length: L.
        n: the most steps that a sample runs over.
        gamma: γ of several steps.
        once: keep each observation once: a row's successor is the next row's, unless it is another one (see `Frames`).
    """

    def __init__(self, like: Transition, *, length: int, n: int, gamma: float, once: bool) -> None:
        self.length, self.num_envs, self.n, self.gamma = length, like.reward.shape[1], n, gamma
        self.rows = length * self.num_envs  # N
        self.device = like.reward.device
        self.like = map_transition(lambda x: x[:1].clone(), like)
        self.position = self.filled = 0  # the time row to write next; how many are written
        self.size = 0  # valid transitions
        self.valid = self.empty(torch.bool)
        self.order: Tensor | None = None  # once a row was invalid: the valid ones' numbers, from `oldest` on, modulo N
        self.oldest = 0
        self.keys = list(like.obs) if isinstance(like.obs, dict) else None
        self.once = once
        fields = self.fields(like, like.last)
        later = {name for name in fields if n > 1 and name.partition(".")[0] == "next_obs"}
        outcome = {"reward", "discount", "onward"} if n > 1 else set()
        self.row_fields = Table({name: x for name, x in fields.items() if name not in later | outcome}, self.rows)
        self.successor_fields = Table({name: fields[name] for name in sorted(later)}, self.rows)
        self.window_fields = Table({name: fields[name] for name in sorted(outcome)}, self.rows)
        # windows read past the newest row, with weight 0, which would not make a NaN 0
        self.window_fields.matrix.zero_()
        self.tables = [table for table in (self.row_fields, self.successor_fields, self.window_fields) if table.names]
        self.frames = Frames(like.obs, self.rows, self.num_envs) if once else None
        self.extras: Fields = {}
        self.tail_successors: Obs = None  # [B, *O]: the newest rows' successors
        self.tail_discount: Tensor | None = None  # [B]: the weight of the rewards after them, if they are joined
        self.ahead = torch.arange(n, device=self.device).unsqueeze(-1) * self.num_envs  # [n, 1]
        self.true: dict[Any, Tensor] = {}

    def empty(self, dtype: torch.dtype, *shape: int) -> Tensor:
        """Make a tensor [N, *shape] without touching its memory."""
        return torch.empty(self.rows, *shape, dtype=dtype, device=self.device)

    def fields(self, rollout: Transition, end: Tensor) -> Fields:
        """Return a rollout's fields for the tables, by name, each [T, B, ...]; windows stop at `end` [T, B]."""
        kept = {"action": rollout.action, "reward": rollout.reward, "discount": rollout.discount}
        if self.n == 1:
            kept["last"] = rollout.last.float()
        else:
            kept["onward"] = self.gamma * onwards(rollout.discount, ~end)  # the weight of the rewards after it
        if not self.once:
            for name, obs in (("obs", rollout.obs), ("next_obs", rollout.next_obs)):
                kept |= {f"{name}.{key}": x for key, x in obs.items()} if isinstance(obs, dict) else {name: obs}
        return kept

    # ------------------------------------------------------------ writing

    def add(self, rollout: Transition) -> int:
        """Add a rollout [T, B, ...], T ≤ L, and return how many of its rows are valid."""
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
            self.tail_successors = map_obs(lambda x: x[-1].clone(), rollout.next_obs)
            self.tail_discount = self.gamma * onwards(rollout.discount[-1], ~end[-1])
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
        """Return where the next t time rows go: one piece, or two around the ring's end."""
        head, b = min(t, self.length - self.position), self.num_envs
        pieces = [(self.position * b, 0, head * b), (0, head * b, (t - head) * b)]
        return pieces if t > head else pieces[:1]

    def newest(self, t: int) -> Tensor:
        """Return the numbers of the last t time rows, [t·B], oldest first."""
        first = (self.position - t) % self.length * self.num_envs
        return (first + torch.arange(t * self.num_envs, device=self.device)) % self.rows

    def join(self, rollout: Transition) -> None:
        """Let windows go on from the newest rows, where the rollout's observations are their successors."""
        if self.tail_discount is None:
            return
        joined = equal(self.tail_successors, rollout.obs, first=True)
        before = (self.position - 1) % self.length * self.num_envs
        if self.n > 1:
            self.window_fields.put("onward", before, onwards(self.tail_discount, joined))
        if self.frames is not None:
            self.frames.join(before, self.position * self.num_envs, joined, self.valid[before : before + self.num_envs])

    def forget(self, segments: Segments) -> None:
        """Take the rows that are about to be overwritten off the count."""
        for at, _, n in segments:
            there = max(min(n, self.filled * self.num_envs - at), 0)
            gone = int(self.valid[at : at + there].sum()) if there and self.order is not None else there
            self.size -= gone
            self.oldest += gone

    def write_valid(self, valid: Tensor, segments: Segments) -> int:
        """Note which rows may be sampled, and return how many."""
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
        """Begin to keep the numbers of valid rows, with all that were there before these segments."""
        self.order, self.oldest = self.empty(torch.long), 0
        after = self.position * self.num_envs + sum(n for *_, n in segments)
        first = after if self.filled == self.length or after > self.rows else 0
        self.order[: self.size] = (first + torch.arange(self.size, device=self.device)) % self.rows

    def write_extras(self, extras: Fields, segments: Segments) -> None:
        """Keep the extras that `act` recorded; zero where it recorded none, as for random actions."""
        for key, x in extras.items():
            if key not in self.extras:
                self.extras[key] = torch.zeros(self.rows, *x.shape[2:], dtype=x.dtype, device=self.device)
        for key, ring in self.extras.items():
            for at, start, n in segments:
                ring[at : at + n] = extras[key].flatten(0, 1)[start : start + n] if key in extras else 0

    # ------------------------------------------------------------ sampling

    def locate(self, rank: Tensor) -> Tensor:
        """Return the numbers of valid rows from their ranks in [0, size)."""
        return rank if self.order is None else self.order[(rank + self.oldest) % self.rows]

    def gather(self, index: Tensor, k: int, device: torch.device) -> list[Transition]:
        """Return the transitions at `index` [k·M] over up to n steps, as k samples [M, ...] on a device."""
        fields, final = self.row_fields.take(index, device), index
        if self.n > 1:
            window, final = self.window(index)
            fields |= self.successor_fields.take(final, device) | window
        if self.frames is not None:
            fields |= self.frames.take("obs", index) | self.frames.take("next_obs", self.frames.after(final))
        fields["last"] = fields["last"].to(torch.bool)
        samples = split(fields, k, device)
        extras = split({key: ring.index_select(0, index) for key, ring in self.extras.items()}, k, device)
        true = self.ones(len(index) // k, device)
        return [self.transition(x, more, true) for x, more in zip(samples, extras, strict=True)]

    def transition(self, x: Fields, extras: Fields, true: Tensor) -> Transition:
        """Make one sample from its fields."""
        obs, next_obs = ({k: x[f"{n}.{k}"] for k in self.keys} if self.keys else x[n] for n in ("obs", "next_obs"))
        return Transition(obs, x["action"], x["reward"], x["discount"], next_obs, x["last"], true, extras)

    def ones(self, m: int, device: torch.device) -> Tensor:
        """Return the same tensor of True, [M], at each call."""
        if (m, device) not in self.true:
            self.true[m, device] = torch.ones(m, dtype=torch.bool, device=device)
        return self.true[m, device]

    def window(self, index: Tensor) -> tuple[Fields, Tensor]:
        """Return rewards and discounts over windows that begin at `index` [K], and their last rows' numbers [K]."""
        path = (index + self.ahead) % self.rows  # [n, K]
        x = self.window_fields.take(path.view(-1), self.device)
        reward, discount, onward = (x[name].unflatten(0, path.shape) for name in ("reward", "discount", "onward"))
        weight = torch.cat([torch.ones_like(onward[:1]), onward[:-1].cumprod(0)])  # γ^k Π_{j<k} d_j, 0 past the window
        goes_on = weight[1:] > 0
        m = (goes_on.flatten(2).any(-1) if onward.dim() > 2 else goes_on).sum(0, keepdim=True)  # steps before its last
        last = [rows_of(x, m) for x in (path, weight * discount, onward)]
        end = (last[2] == 0).flatten(1).all(-1) if onward.dim() > 2 else last[2] == 0
        return {"reward": (weight * reward).sum(0), "discount": last[1], "last": end}, last[0]

    # ------------------------------------------------------------ saving

    def snapshot(self) -> dict[str, Any]:
        """Return the contents as tensors and plain values that no later step changes."""
        n = self.filled * self.num_envs
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
            "beyond": self.tail_successors,
            "onward": self.tail_discount,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Restore a snapshot."""
        self.position, self.filled, self.size = state["position"], state["filled"], state["size"]
        n = self.filled * self.num_envs
        self.valid[:n] = state["valid"].to(self.device)
        for table, saved in zip(self.tables, state["tables"], strict=True):
            table.restore(saved, n)
        for key, x in state["extras"].items():
            self.extras[key] = torch.zeros(self.rows, *x.shape[1:], dtype=x.dtype, device=self.device)
            self.extras[key][:n] = x
        if self.frames is not None:
            self.frames.restore(state["frames"], n)
        if state["onward"] is not None:
            self.tail_successors = map_obs(lambda x: x.to(self.device), state["beyond"])
            self.tail_discount = state["onward"].to(self.device)
        if state["ordered"]:
            chronological = self.newest(self.filled)
            self.order, self.oldest = self.empty(torch.long), 0
            self.order[: self.size] = chronological[self.valid[chronological]]


def onwards(discount: Tensor, goes_on: Tensor) -> Tensor:
    """Return the weight of the rewards after a row: discounts [..., B, …] where it goes on [..., B], else 0."""
    return discount * (goes_on if discount.dim() == goes_on.dim() else goes_on.unsqueeze(-1))


def rows_of(x: Tensor, row: Tensor) -> Tensor:
    """Return the elements of x [n, K, …] at the rows [1, K] of its first axis; [K, …]."""
    if x.dim() > 2:
        row = row.unsqueeze(-1).expand(1, *x.shape[1:])
    return x.gather(0, row).squeeze(0)


def equal(before: Obs, after: Obs, *, ahead: int = 0, first: bool = False) -> Tensor:
    """Tell which observations equal those `ahead` steps later, or, with `first`, the first of others.

    Args:
        before: [T, B, *O], or with `first` [B, *O].
        after: [T, B, *O].
        ahead: steps.
        first: compare with the first step of `after`.

    Returns:
        [T − ahead, B], or with `first` [B].
    """
    same_parts: list[Tensor] = []

    def compare(x: Tensor, y: Tensor) -> None:
        y = y[0] if first else y[ahead:]
        x = x if first else x[: len(x) - ahead]
        same = x == y
        lead = 1 if first else 2
        same_parts.append(same.flatten(lead).all(-1) if same.dim() > lead else same)

    map_obs(compare, before, after)
    return torch.stack(same_parts).all(0) if len(same_parts) > 1 else same_parts[0]
