"""Data parallelism: processes that share out the environments and take every gradient step together."""

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
TIMEOUT = timedelta(hours=2)  # the longest wait for a rank: for its evaluation, say; one that dies is seen at once
PATIENCE = 30.0  # seconds that the leader gives the others to end, and to report why they ended
SAID: tuple[type[Exception], ...] = (EnvFailed, NotBegun, UserError, EnvNotFinite, Diverged)  # errors that ranks report
PARTED = 75  # exit code of a rank that ends because another rank is gone


class DataParallel(Team):
    """W ranks with B/W environments each, which step along the mean of their gradients.

    Running statistics are those of all ranks. So an update is the same as that of one process with B environments.

    The leader starts the other ranks, unless torchrun has started all of them.

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
        self.odd = ""  # the error line, where something can't be shared out evenly
        self.joined = False  # whether the ranks form a group now
        self.states: list[dict[str, Any]] = []  # states of the other ranks, as in a checkpoint
        if rank and torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", rank)) % torch.cuda.device_count())

    def environments(self, num_envs: int) -> int:
        """Return this rank's share of the environments; see `Team.environments`."""
        return self.share("env.num_envs", num_envs)

    def episodes(self, episodes: int) -> int:
        """Return this rank's share of a rollout's episodes; see `Team.episodes`."""
        return self.share("collector.episodes", episodes)

    def share(self, key: str, n: int) -> int:
        """Return this rank's share of n, the same for all ranks.

        Where n can't be shared out evenly, `take` refuses the run with a message that names the key.
        """
        if n % self.workers:
            near = max(n - n % self.workers, self.workers)
            self.odd = f"parallel=ddp shares {key}={n} out evenly, which workers={self.workers} can't: use {key}={near}"
        return max(n // self.workers, 1)

    def clock(self, total_steps: int) -> CommonClock:
        """Make a clock that counts the steps of all ranks; see `Team.clock`."""
        return CommonClock(total_steps)

    def take(self, algorithm: Algorithm, collector: Collector, memory: Memory) -> None:
        """Take this rank's parts, and refuse what can't be shared out; see `Team.take`."""
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
        """Keep the ranks joined and averaging while the loop runs; see `Team.at_work`."""
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
        """On the leader, run the other ranks during the block, which begins once all are ready.

        Yields:
            A function that returns the error that explains why a rank is gone.
        """
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
                if error := self.cause(workers):
                    raise error
                time.sleep(0.02)
            yield lambda: self.why(workers)

    def why(self, workers: Workers) -> Exception:
        """Return the error that explains why a rank is gone; wait a few seconds for it to be known."""
        deadline = time.monotonic() + PATIENCE / 6
        while time.monotonic() < deadline:
            if error := self.cause(workers):
                return error
            time.sleep(0.02)
        return Lost("a process of parallel=ddp is gone, or did not come in time; pgrun resume RUN goes on")

    def cause(self, workers: Workers) -> Exception | None:
        """Return the error that a rank reported, or that its exit code means; None if no rank has failed."""
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
        """Join all ranks into one group for the block: give them one state, and average their gradients."""
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
        """Choose the backend: NCCL between GPUs where each process has one, else Gloo."""
        if not self.launched and "lo" in (name for _, name in socket.if_nameindex()):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # the host name may resolve to anything
        here = int(os.environ.get("LOCAL_WORLD_SIZE", self.workers))
        return "cpu:gloo,cuda:nccl" if torch.cuda.device_count() >= here and dist.is_nccl_available() else "gloo"

    def begin(self, algorithm: Algorithm, clock: Clock) -> None:
        """Give the leader's tensors and clock to all ranks.

        In a run that is resumed, each rank also gets back its own collector, memory and generators.
        """
        if self.rank:
            common, states = unpacked(broadcast(b""))
            state = states[self.rank - 1] if states else None
            kept = {k: x for k, x in algorithm.state_dict().items() if own(k)} if state is None else state["own"]
            common["algorithm"]["module"] |= kept
            algorithm.restore(common["algorithm"])
            clock.restore(common["clock"])
            if state is not None:
                if not self.collector.restore(state["collector"]):
                    algorithm.forget_episodes()
                self.memory.restore(state["memory"])
                restore_generators(state["generators"])
            return
        broadcast(packed(({"algorithm": algorithm.snapshot(), "clock": clock.snapshot()}, self.states)))

    def gather_states(self) -> None:
        """Collect the states of all ranks on the leader. Every rank must call this at the same step."""
        state = {
            "collector": self.collector.snapshot(),
            "memory": self.memory.snapshot(),
            "generators": generators(),
            "own": {k: x for k, x in self.algorithm.state_dict().items() if own(k)},
        }
        self.states = [unpacked(x) for x in gather(packed(state) if self.rank else None)[1:]]

    def snapshot(self) -> list[dict[str, Any]]:
        """Return the states of the other ranks; see `Team.snapshot`."""
        if self.joined:
            self.gather_states()
        return self.states

    def restore(self, state: list[dict[str, Any]]) -> None:
        """Keep the states of the other ranks until they join; see `Team.restore`."""
        self.states = state


def follow(settings: dict[str, Any], rank: int, port: int) -> None:
    """Run a rank that the leader started, until it ends."""
    end_with_parent()
    raise SystemExit(serve(settings, rank, dist.TCPStore("127.0.0.1", port)))


def serve(settings: dict[str, Any], rank: int, store: Any) -> int:
    """Run the loop of a rank that is not the leader, and report its failure to the leader.

    Returns:
        The exit code.
    """
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
            train(parts.algorithm, parts.collector, parts.memory, clock, hooks, update=parts.update)
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
