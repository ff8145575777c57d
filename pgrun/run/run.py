"""One run from its config to its result: train, evaluate, checkpoint, resume and report."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pgrun.errors import Diverged, EnvFailed, Failed, NotBegun, UserError
from pgrun.loop.evaluate import Evaluation
from pgrun.loop.hooked import Hooked
from pgrun.loop.hooks import Checkpoint, Compiling, Evaluate, Note, Report
from pgrun.loop.train import Clock, Hook, train
from pgrun.run import checkpoint
from pgrun.run.build import Parts
from pgrun.run.checkpoint_files import Written
from pgrun.run.console import above_bar
from pgrun.run.final import evaluate_finally
from pgrun.run.made_here import record_run
from pgrun.run.opening import curves, first_line, hyperparameters, texts
from pgrun.run.origin import origin
from pgrun.run.own_code import failure_of
from pgrun.run.progress import Progress
from pgrun.run.provenance import Provenance
from pgrun.run.result_file import cause, diverged, end_with, env_unusable, failed, fields, note_traceback, write_result
from pgrun.run.run_record import write_record
from pgrun.run.run_state import RunState, ground
from pgrun.run.sessions import Sessions
from pgrun.run.tensorboard import TensorBoard
from pgrun.system.atomic import told
from pgrun.system.signals import held_back, interruptible, stop_on_signals

log = logging.getLogger("pgrun")
logging.raiseExceptions = False  # on a full disk, each line for pgrun.log would become a traceback
EVAL_SEED = 1_000_003  # added to the seed, so that evaluation's episodes are not training's


class Run:
    """A run in its directory.

    Args:
        config: the composed config.
        parts: the parts that `build` made from it.
        folder: the run directory.
        names: the `algo` and `env` that were chosen.
        begin: `time.perf_counter()` when the process began.
        quiet: print nothing and show no progress (one of several jobs at once).
        answers: whether its user gets a line at the first signal, and ends it at once by a second Ctrl-C; False: it has
            no user. None: it has one, who gets the line unless it is quiet.
        hydra: the `hydra` node that the config was composed with, if that is known.
        told: the changes that `pgrun resume` was told.
        trusted: whether its code is somebody else's, by `--trust`: then no other run of its config becomes known.
        resume: a checkpoint's content to go on from.
        hopeless: called after each evaluation with environment steps and mean return; it returns True to stop the run.
        reproduces: the run directory that it runs again, whose status then is interrupted where `hopeless` stops it.
    """

    recorded = True  # whether this machine is to know that it was made here

    def __init__(
        self,
        config: DictConfig,
        parts: Parts,
        folder: Path,
        *,
        names: dict[str, str],
        begin: float,
        quiet: bool = False,
        answers: bool | None = None,
        hydra: DictConfig | None = None,
        told: Sequence[str] = (),
        trusted: bool = False,
        resume: dict[str, Any] | None = None,
        hopeless: Callable[[int, float], bool] | None = None,
        reproduces: str = "",
    ) -> None:
        self.config, self.parts, self.folder, self.names = config, parts, folder, names
        self.quiet, self.hopeless, self.has_user = quiet, hopeless, answers is not False
        self.answers = not quiet if answers is None else answers
        self.hydra, self.told, self.trusted = hydra, told, trusted
        self.origin = origin(hydra, config, reproduces)
        self.clock = parts.team.clock(config.total_steps)
        self.sessions = Sessions(self.clock, begin)
        self.checkpoints = folder / "checkpoints"
        self.written = Written(self.checkpoints, keep=config.checkpoint.keep, resumed=resume is not None)
        self.saved_at: Any = None  # `stands()` at the last checkpoint
        if resume is not None:
            self.clock.restore(resume["clock"])
        start = self.clock.steps
        self.board = TensorBoard(folder, config.log.every, start, parts.collector.stats, lambda: curves(parts))
        self.evaluation = Evaluate(
            parts.algorithm,
            parts.make_eval_env,
            every=config.eval.every,
            episodes=config.eval.episodes,
            stop_at=config.eval.stop_at,
            stochastic=config.eval.get("stochastic", False),
            max_steps=config.eval.get("max_steps"),
            seed=config.seed + EVAL_SEED,
            start=start,
            record=self.board.scalar,
            on_best=self.write_best,
        )
        seen = ground(parts, self.clock, folder, config, self.sessions, self.board)
        self.hooked = Hooked(parts.hooks, seen, self.evaluation, resumed=resume is not None)
        self.board.heard = self.hooked.point
        self.provenance = Provenance(folder, config, self.origin["command"], told, self.evaluation)
        self.state = RunState(
            parts, config, self.clock, self.evaluation, self.board, self.sessions, self.hooked, self.provenance
        )
        self.closers = [self.evaluation.close, parts.collector.env.close]
        self.notes: list[str] = []  # lines to print when the run begins
        if resume is not None:
            self.notes = self.state.restore(resume)
            self.saved_at = self.stands()

    def snapshot(self) -> dict[str, Any]:
        """Return everything that a resumed run needs, as tensors and plain values."""
        return {**self.state.snapshot(), **self.policy()}

    def policy(self) -> dict[str, Any]:
        """Return what is needed to evaluate the policy."""
        return {
            "algorithm": self.parts.algorithm.snapshot(),
            "clock": self.clock.snapshot(),
            "names": self.names,
            "config": OmegaConf.to_container(self.config, resolve=True),
        }

    def write(self) -> None:
        """Write step_<n>.pt, and point `latest.pt` to it."""
        if self.saved_at == self.stands():
            return
        self.board.flush()
        self.parts.team.gather(self.parts.algorithm)
        state = self.snapshot()
        with held_back():
            self.written.write(f"step_{self.clock.steps}", "latest.pt", checkpoint.dump(state))
            self.provenance.write()
        self.saved_at = self.stands()

    def complete(self, clock: Clock, metrics: dict[str, Any]) -> None:
        """Write a checkpoint that a hook wants, or add an evaluation to the last one. This is a hook of the loop."""
        written = self.saved_at is not None and self.saved_at[:2] == self.stands()[:2]
        if self.hooked.wants_checkpoint() or (self.parts.team.apart and written):
            self.write()

    def announce(self, clock: Clock, metrics: dict[str, Any]) -> None:
        """Tell the config's hooks of a checkpoint that was written at this step. This is a hook of the loop."""
        if self.hooked and self.saved_at is not None and self.saved_at[:2] == self.stands()[:2]:
            self.hooked.checkpoint(self.checkpoints / f"step_{self.clock.steps}.pt")

    def stands(self) -> tuple[Any, ...]:
        """Return a mark of where the run stands, which differs between any two checkpoints."""
        stopped = self.hooked.stopped is not None
        return self.clock.steps, self.clock.updates, self.evaluation.latest_at, self.clock.interrupted, stopped

    def write_best(self) -> None:
        """Write best_<n>.pt, with only the policy for evaluation, and point `best.pt` to it."""
        with held_back():
            self.written.write(f"best_{self.clock.steps}", "best.pt", checkpoint.dump(self.policy()))

    def execute(self) -> dict[str, Any]:
        """Train until the end, whatever ends it, and return the content of result.json.

        Raises:
            Diverged: after result.json is written.
            NotBegun: an environment breaks its interface in its very first step.
            EnvFailed: an environment broke; after a checkpoint and result.json are written.
            UserError: the disk is full, for example; after result.json is written, if that is possible.
        """
        parts, clock, status, final, why = self.parts, self.clock, "failed", None, {}
        try:
            with told("can't write into", self.folder):
                self.provenance.reopen()
            self.written.begin()
            if self.recorded:
                record_run(self.config, self.hydra, self.folder, only_there=self.trusted)
            said = self.open()
            progress = Progress(clock, parts.collector.stats, self.evaluation, show=not self.quiet)
            report = Report(self.evaluation, self.hopeless)
            evaluating: list[Hook] = [self.evaluation, self.provenance, report, self.hooked.evaluate]
            hooks: list[Hook] = [
                Note(said),
                Compiling(parts.algorithm, parts.collector),
                self.hooked.update,  # before the checkpoint, which is to know of it
                self.board,
                Checkpoint(self.write, every=self.config.checkpoint.every, start=clock.steps),  # before slow hooks
                *evaluating,
                *(self.complete, self.announce, progress),
            ]
            with stop_on_signals(clock, *((above_bar,) if self.answers else ()), again=self.has_user):
                try:
                    self.sessions.startup = time.perf_counter() - self.sessions.begin
                    with parts.team.at_work(parts.algorithm, parts.settings, clock) as watches:
                        self.hooked.start()
                        for hook in [*evaluating, self.announce]:  # what may have been due at the checkpoint
                            hook(clock, {})
                        hooks[:0] = watches
                        train(parts.algorithm, parts.collector, parts.memory, clock, hooks, update=parts.update)
                finally:
                    progress.close(clock)
                if not clock.updates and not clock.stop:
                    log.warning("nothing was learnt: the run ended before its first update (see memory.warmup)")
                self.write()
                self.announce(clock, {})
            if clock.stop in ("interrupted", "pruned"):
                status = "interrupted" if "reproduces" in self.origin else clock.stop
            else:
                begin = time.perf_counter()
                with interruptible():
                    final = self.final_evaluation()
                self.sessions.after_loop = time.perf_counter() - begin
                status = "finished"
            self.hooked.end(self.result(status, final))
        except KeyboardInterrupt:
            status = "interrupted"
            if not clock.stop:  # an environment raised it, not a second signal
                self.write_what_is_left()
        except NotBegun as error:
            if not clock.steps and self.saved_at is None:
                raise
            raise self.kept(env_unusable(error)) from error
        except Diverged as error:
            status, why = "diverged", cause(error)
            raise diverged(error, clock, checkpoint.latest(self.checkpoints)) from error
        except Exception as error:
            status = "failed"
            if failure := failure_of(error, self.config):
                raise self.kept(failure) from error
            raise
        finally:
            result = self.result(status, final) | why
            self.close(result)
        return result

    def open(self) -> str:
        """Describe the run in TensorBoard, and return its first lines for the log."""
        write_record(self.folder, self.config, self.names, self.origin, self.hydra, self.told)
        first = first_line(self.folder, self.names, self.parts, self.clock.steps, self.origin, self.hydra)
        self.board.describe(
            texts(self.folder, self.origin, self.config, self.told),
            hyperparameters(self.config, self.names, self.hydra),
            self.clock.steps,
            evaluated=self.evaluation.latest_at == self.clock.steps,
        )
        notes = (*self.notes, *(getattr(part, "note", "") for part in (self.parts.memory, self.parts.algorithm)))
        return "\n".join(filter(None, ("" if self.quiet else first, *notes)))

    def write_what_is_left(self) -> None:
        """Write a checkpoint of what was learnt after environments broke, without what they were doing."""
        if self.parts.team.apart and self.clock.steps:
            try:
                self.write()
            except UserError as error:
                log.error(str(error))

    def kept(self, error: Failed) -> UserError:
        """Save what is left after an environment failed, and return the error to report."""
        if isinstance(error, EnvFailed):  # others leave the last checkpoint, from which their moment is done again
            self.write_what_is_left()
        note_traceback(self.folder, error)
        return failed(error, self.folder, checkpoint.latest(self.checkpoints))

    def final_evaluation(self) -> Evaluation | None:
        """Evaluate the final policy if asked to; training's environments are closed first."""
        if not (episodes := self.config.eval.final_episodes):
            return None
        self.free()
        env, record = self.parts.make_eval_env(episodes), self.board.scalar
        final = evaluate_finally(self.evaluation, env, episodes, self.clock.steps, record, self.write_best)
        self.provenance.note(self.clock, final.mean, final=True)
        return final

    def result(self, status: str, final: Evaluation | None) -> dict[str, Any]:
        """Return the fields of result.json."""
        result = {"status": status, **self.names, **self.origin, "resumed_with": list(self.told)}
        result |= {"seed": self.config.seed, "env_steps": self.clock.steps, "updates": self.clock.updates}
        result |= {"stopped": self.hooked.stopped} if self.hooked.stopped is not None else {}
        return result | self.sessions.whole() | fields(self.parts.collector.stats, self.evaluation, final)

    def close(self, result: dict[str, Any]) -> None:
        """Write result.json, and close files and environments, even if some of that fails."""
        end_with(
            lambda: self.hooked.end(result),
            *(self.written.end, self.provenance.write),
            lambda: write_result(self.folder, result),
            lambda: self.board.close(result, self.clock.steps),
            self.free,
        )

    def free(self) -> None:
        """Close the environments of training and evaluation, once."""
        while self.closers:
            self.closers.pop(0)()
