"""Processes that share the environments out and take every step together."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from pgrun.algos.parts.base import Algorithm
from pgrun.collect.collector import Collector
from pgrun.config.ranges import Count
from pgrun.core import ranks
from pgrun.errors import Diverged, EnvFailed, EnvNotFinite, Lost, NotBegun, UserError
from pgrun.loop import launched
from pgrun.loop.hooks import Checkpoint
from pgrun.loop.team import Team, own
from pgrun.loop.train import Clock, Hook, train
from pgrun.memory.memory import Memory
from pgrun.parallel.averaging import Average, CommonClock
from pgrun.parallel.messages import broadcast, gather, packed, unpacked
from pgrun.parallel.workers import Workers, end_with_parent, how
from pgrun.system.randomness import generators, restore_generators
from pgrun.system.signals import leave_to_leader

log = logging.getLogger("pgrun")
TIMEOUT = timedelta(hours=2)  # that one rank waits for another: for its evaluation, say. One that dies is seen at once
PATIENCE = 30.0  # seconds that the leader gives the others to end, and to say why they ended
SAID: tuple[type[Exception], ...] = (EnvFailed, NotBegun, UserError, EnvNotFinite, Diverged)  # what a rank tells
PARTED = 75  # exit code of a rank that ends because another is gone


class DataParallel(Team):
    """W ranks with B/W of the environments each, which step along the mean of their gradients with the statistics of
    them all: the same update as of one process with B.

    The leader starts the others, unless torchrun has started all.

    Args:
        workers: processes that run the loop together.
    """

    def __init__(self, *, workers: Count, rank: int = 0) -> None:
        super().__init__(workers=workers, rank=rank)
        self.apart = workers == 1
        self.launched = launched.here()
        if self.launched and launched.world() != workers:
            raise UserError(
                f"workers={workers}, but torchrun started {launched.world()}: use torchrun --nproc-per-node={workers}"
            )
        self.store: Any = None
        self.odd = ""  # what can't be shared out
        self.joined = False  # whether the ranks are one group now
        self.states: list[dict[str, Any]] = []  # of the other ranks, as a checkpoint holds them
        if rank and torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", rank)) % torch.cuda.device_count())

    def environments(self, num_envs: int) -> int:
        return self.share("env.num_envs", num_envs)

    def episodes(self, episodes: int) -> int:
        return self.share("collector.episodes", episodes)

    def share(self, key: str, n: int) -> int:
        """A rank's part of n, the same for all; where there is none, `take` will say so."""
        if n % self.workers:
            near = max(n - n % self.workers, self.workers)
            self.odd = f"parallel=ddp shares {key}={n} out evenly, which workers={self.workers} can't: use {key}={near}"
        return max(n // self.workers, 1)

    def clock(self, total_steps: int) -> CommonClock:
        return CommonClock(total_steps)

    def take(self, algorithm: Algorithm, collector: Collector, memory: Memory) -> None:
        self.algorithm, self.collector, self.memory = algorithm, collector, memory
        if self.workers > 1 and not getattr(memory, "in_step", False):
            name = type(memory).__name__
            raise UserError(
                f"parallel=ddp averages the gradients of rollouts that were collected together, and {name} offers each "
                "process batches of its own: use memory=latest and an on-policy algorithm, or parallel=none"
            )
        if self.odd:
            raise UserError(self.odd)

    @contextmanager
    def at_work(self, algorithm: Algorithm, settings: dict[str, Any], clock: Clock) -> Iterator[Sequence[Hook]]:
        assert isinstance(clock, CommonClock)
        clock.stats, clock.rank = self.collector.stats, self.rank
        if self.workers == 1:
            yield ()
            return
        with self.others_running(settings, clock) as why:
            try:
                with self.together(algorithm, clock):
                    yield (
                        Checkpoint(self.gather_states, every=settings["checkpoint"]["every"], start=clock.steps),
                    ) * (self.rank > 0)
                    self.gather_states()
            except ranks.Parted as error:
                if self.rank:
                    raise
                raise why() from error

    @contextmanager
    def others_running(self, settings: dict[str, Any], clock: Clock) -> Iterator[Callable[[], Exception]]:
        """On the leader the other ranks, ready to begin; -> what tells why one is gone."""
        if self.rank:
            self.store.set(f"ready/{self.rank}", "")
            yield lambda: Lost("")
            return
        with Workers(mp.get_context("spawn"), PATIENCE, threading.Event()) as workers:
            if self.launched:
                self.store = launched.lead(settings)
            else:
                self.store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
                for rank in range(1, self.workers):
                    workers.start(rank, follow, settings, rank, self.store.port)
            while not self.store.check([f"ready/{rank}" for rank in range(1, self.workers)]):
                if clock.stop == "interrupted":
                    raise KeyboardInterrupt
                if found := self.cause(workers):
                    raise found
                time.sleep(0.02)
            yield lambda: self.why(workers)

    def why(self, workers: Workers) -> Exception:
        """Why a rank is gone."""
        deadline = time.monotonic() + PATIENCE / 6
        while time.monotonic() < deadline:
            if found := self.cause(workers):
                return found
            time.sleep(0.02)
        return Lost("a process of parallel=ddp is gone, or did not come in time; pgrun resume RUN goes on")

    def cause(self, workers: Workers) -> Exception | None:
        """What a rank said before it ended, or how it ended, if one did."""
        if self.store.check(["failed"]):
            kind, rank, text = json.loads(self.store.get("failed"))
            known = {kind.__name__: kind for kind in SAID}
            return known.get(kind, Lost)(f"worker {rank}: {text}")
        for rank, process in workers.processes.items():
            if process.exitcode not in (None, 0, PARTED):
                return Lost(
                    f"worker {rank} died ({how(process.exitcode)}), and without it there is no update; "
                    "pgrun resume RUN goes on from the last checkpoint"
                )
        return None

    @contextmanager
    def together(self, algorithm: Algorithm, clock: CommonClock) -> Iterator[None]:
        """All ranks are one group: they begin alike, average what they step along, and part again."""
        with ranks.meeting():
            dist.init_process_group(
                self.backend(), store=self.store, rank=self.rank, world_size=self.workers, timeout=TIMEOUT
            )
        try:
            ranks.join(dist.group.WORLD)
            self.joined = True
            self.begin(algorithm, clock)
            for step in algorithm.steps().values():
                step.exchange = Average()
            yield
        finally:
            ranks.leave()
            self.joined = False
            for step in algorithm.steps().values():
                step.exchange = None
            dist.destroy_process_group()

    def backend(self) -> str:
        """nccl between GPUs, where each process has one; else gloo."""
        if not self.launched and "lo" in (name for _, name in socket.if_nameindex()):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # whatever this machine's name resolves to
        here = int(os.environ.get("LOCAL_WORLD_SIZE", self.workers))
        return "cpu:gloo,cuda:nccl" if torch.cuda.device_count() >= here and dist.is_nccl_available() else "gloo"

    def begin(self, algorithm: Algorithm, clock: Clock) -> None:
        """The leader's tensors and clock for all, and to each its own state where a run goes on."""
        if self.rank:
            common, states = unpacked(broadcast(b""))
            mine = states[self.rank - 1] if states else None
            kept = {k: x for k, x in algorithm.state_dict().items() if own(k)} if mine is None else mine["own"]
            common["algorithm"]["module"] |= kept
            algorithm.restore(common["algorithm"])
            clock.restore(common["clock"])
            if mine is not None:
                if not self.collector.restore(mine["collector"]):
                    algorithm.forget_episodes()
                self.memory.restore(mine["memory"])
                restore_generators(mine["generators"])
            return
        broadcast(packed(({"algorithm": algorithm.snapshot(), "clock": clock.snapshot()}, self.states)))

    def gather_states(self) -> None:
        """A meeting of all: the leader has the others' states."""
        mine = {
            "collector": self.collector.snapshot(),
            "memory": self.memory.snapshot(),
            "generators": generators(),
            "own": {k: x for k, x in self.algorithm.state_dict().items() if own(k)},
        }
        self.states = [unpacked(x) for x in gather(packed(mine) if self.rank else None)[1:]]

    def snapshot(self) -> list[dict[str, Any]]:
        if self.joined:
            self.gather_states()
        return self.states

    def restore(self, state: list[dict[str, Any]]) -> None:
        self.states = state


def follow(settings: dict[str, Any], rank: int, port: int) -> None:
    """What a process runs that the leader started."""
    end_with_parent()
    raise SystemExit(serve(settings, rank, dist.TCPStore("127.0.0.1", port)))


def serve(settings: dict[str, Any], rank: int, store: Any) -> int:
    """The loop of a rank that is not the leader, which tells of failures; -> the exit code."""
    leave_to_leader()
    from pgrun.run.build import build

    parts = None
    try:
        parts = build(settings, fresh=False, rank=rank)
        team = parts.team
        assert isinstance(team, DataParallel)
        team.store = store
        clock = team.clock(settings["total_steps"])
        with team.at_work(parts.algorithm, parts.settings, clock) as hooks:
            train(parts.algorithm, parts.collector, parts.memory, clock, hooks)
        return 0
    except ranks.Parted:
        return PARTED
    except Exception as error:
        known = isinstance(error, (UserError, Diverged))
        kind = next((k.__name__ for k in SAID if isinstance(error, k)), "")
        if not known:
            traceback.print_exc()
        store.set("failed", json.dumps([kind, rank, str(error) if known else f"{type(error).__name__}: {error}"]))
        return error.exit_code if isinstance(error, (UserError, Diverged)) else 1
    finally:
        if parts is not None:
            parts.collector.env.close()
