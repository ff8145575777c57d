"""The same updates on one rank and on two: what both run, so that what they come to can be compared."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from pgrun.core import ranks
from pgrun.data.types import Transition, columns, map_transition
from pgrun.parallel import messages
from pgrun.run.build import build

RANKS = 2


@dataclass
class Case:
    """One recipe's updates on given rollouts."""

    settings: dict[str, Any]
    rollouts: list[Transition] = field(default_factory=list)  # of all environments
    double: bool = True
    gradients_alone: bool = False  # average gradients and nothing else, as a plain wrapper would


def part(rollout: Transition, rank: int) -> Transition:
    """A rank's environments, up to where the last of its own episodes ends."""
    b = rollout.reward.shape[1] // RANKS
    mine = columns(rollout, torch.arange(rank * b, (rank + 1) * b))
    length = int(mine.valid.any(1).nonzero().max()) + 1
    return map_transition(lambda x: x[:length], mine)


class Orders:
    """Stands in for torch.randperm: minibatch k of one rank with everything is what the two have in theirs."""

    def __init__(self, rollout: Transition, rank: int | None) -> None:
        self.rank, self.valid, self.calls = rank, rollout.valid.flatten(), 0
        self.b = rollout.reward.shape[1]

    def __call__(self, n: int, **_: Any) -> Tensor:
        self.calls += 1
        if self.rank is not None:
            return self.shuffled(n, self.rank)
        index = torch.arange(self.valid.numel())
        index = index[self.valid] if n == int(self.valid.sum()) else index[:n]
        owner = index % self.b // (self.b // RANKS)
        mine = [(owner == rank).nonzero().squeeze(-1) for rank in range(RANKS)]
        orders = [where[self.shuffled(len(where), rank)] for rank, where in enumerate(mine)]
        if len({len(order) for order in orders}) == 1:
            return torch.stack(orders, 1).flatten()
        return torch.cat(orders)  # for one minibatch of everything

    def shuffled(self, n: int, rank: int) -> Tensor:
        return torch.randn(n, generator=torch.Generator().manual_seed(self.calls * RANKS + rank)).argsort()


def with_noise(rollout: Transition, seed: int) -> Transition:
    """With the noise that an optimizer draws for each row."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(*rollout.reward.shape, 4, generator=generator)
    return rollout._replace(extras={**rollout.extras, "noise": noise})


def fisher(algorithm: Any) -> Callable[..., tuple[Tensor, Tensor]]:
    """`algorithm.fisher` with the noise of each row."""

    def drawn(batch: Transition, *_: Any) -> tuple[Tensor, Tensor]:
        pi, value = algorithm.model(batch)
        noise = batch.extras["noise"]
        with torch.no_grad():
            if batch.action.is_floating_point():
                mean, log_std = pi.params().chunk(2, -1)
                action = mean + log_std.exp() * noise[..., 1 : 1 + mean.shape[-1]]
            else:
                u = 0.5 * (1.0 + torch.erf(noise[..., 1:2] / 2**0.5))
                action = (u > pi.params().softmax(-1).cumsum(-1)[..., :-1]).sum(-1)
            v = value + noise[..., 0]
        return pi.log_prob(action) - 0.5 * (value - v).square(), batch.valid

    return drawn


@contextmanager
def dtype(double: bool) -> Iterator[None]:
    torch.set_default_dtype(torch.float64 if double else torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def updates(algorithm: Any, case: Case, rank: int | None) -> dict[str, Tensor]:
    """Run the updates of a case, of one rank or (None) of a process with everything; -> all tensors, by name."""
    for step in algorithm.steps().values():
        if hasattr(step.optimizer, "fisher"):
            step.optimizer.fisher = fisher(algorithm)
    found: dict[str, Tensor] = {}
    for i, rollout in enumerate(case.rollouts):
        algorithm.set_progress(i / 10)
        orders = Orders(rollout, rank)
        mine = rollout if rank is None else part(rollout, rank)
        mine = map_transition(lambda x: x.to(torch.get_default_dtype()) if x.is_floating_point() else x, mine)
        with mock.patch("torch.randperm", orders):
            metrics = algorithm.update(mine)
        found |= {f"metric {i} {key}": value.detach().clone() for key, value in metrics.items()}
    found |= {name: x.detach().clone() for name, x in algorithm.state_dict().items() if not name.endswith("carry")}
    for name, step in algorithm.steps().items():
        found |= {f"{name} {key}": torch.as_tensor(x).clone() for key, x in step.optimizer.state_dict().items()}
    return found


def of_one(case: Case) -> dict[str, Tensor]:
    """Take the updates in one process alone."""
    with dtype(case.double):
        algorithm = build({**case.settings, "parallel": ALONE, "workers": 1}).algorithm
        return updates(algorithm, case, None)


ALONE = {"_target_": "pgrun.loop.team.Alone", "_partial_": True, "workers": 1}


class GradientsAlone:
    """Average as the usual wrapper does: the gradients' plain mean, and no statistics of all."""

    def step(self, step: Any, *args: Any) -> Tensor:
        dist.all_reduce(step.theta.grad)
        step.theta.grad.div_(RANKS)
        return step.descend(*args)

    def begin(self, step: Any, progress: float) -> None:
        pass


def of_rank(case: Case, rank: int, store: Any) -> dict[str, Tensor]:
    """Take the updates as one of two ranks."""
    with dtype(case.double):
        parts = build(case.settings, rank=rank)
        team: Any = parts.team  # a DDP team
        team.store = store
        clock = team.clock(1)
        clock.stats = parts.collector.stats
        with team.together(parts.algorithm, clock):
            if case.gradients_alone:
                ranks.leave()
                for step in parts.algorithm.steps().values():
                    step.exchange = GradientsAlone()
            return updates(parts.algorithm, case, rank)


def run_rank(rank: int, port: int, cases: Any, results: Any) -> None:
    torch.set_num_threads(1)
    store = dist.TCPStore("127.0.0.1", port)
    found: dict[str, Any] = {}
    for i, (name, case) in enumerate(torch.load(io.BytesIO(cases.get()), weights_only=False).items()):
        try:
            found[name] = of_rank(case, rank, dist.PrefixStore(str(i), store))
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"
            break  # the other waits in vain
    results.put((rank, messages.packed(found)))


class Pair:
    """Two ranks' processes; they start at once, and are told later what to do."""

    def __init__(self) -> None:
        context = mp.get_context("spawn")
        self.cases, self.results = context.Queue(), context.Queue()
        self.store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        each = (self.store.port, self.cases, self.results)
        self.processes = [context.Process(target=run_rank, args=(rank, *each)) for rank in range(RANKS)]
        for process in self.processes:
            process.start()

    def run(self, cases: dict[str, Case]) -> list[dict[str, Any]]:
        """Return each case's results, by rank; what a rank could not do is told in words."""
        for _ in self.processes:
            self.cases.put(messages.packed(cases))
        found = dict(self.results.get(timeout=300) for _ in self.processes)
        return [messages.unpacked(found[rank]) for rank in range(RANKS)]

    def end(self) -> None:
        for process in self.processes:
            process.join(5)
            process.kill()
