"""What `pgrun resume` and `pgrun eval` do."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pgrun.algos.parts.base import Algorithm
from pgrun.collect.demonstrations import Recorder
from pgrun.config.hydra_errors import instantiation
from pgrun.config.quoting import unreadable
from pgrun.config.suggest import nearest
from pgrun.config.values import validate_keys
from pgrun.config.walk import keys
from pgrun.data.types import VectorEnv
from pgrun.envs.episode_file import episodes as to_episodes
from pgrun.envs.episode_file import save
from pgrun.errors import EnvFailed, UserError
from pgrun.loop.evaluate import evaluate
from pgrun.run import checkpoint
from pgrun.run.alone import alone
from pgrun.run.build import build, make_algorithm
from pgrun.run.console import pasted, remark, say, shown, summary
from pgrun.run.directory import (
    check_begun,
    check_run,
    find_checkpoint,
    hydra_of,
    load_run,
    own_checkpoint,
    remember,
    told,
    use_search_path,
)
from pgrun.run.environments import make_env, make_eval_env
from pgrun.run.result_file import note_traceback
from pgrun.run.run import EVAL_SEED, Run
from pgrun.system.signals import interruptible

# Changing these on resume leaves what was learnt usable; anything else would be another run.
RESUMABLE = (
    *("total_steps", "eval", "checkpoint", "log", "device", "act_device", "threads", "compile"),
    *("parallel.address", "parallel.cpus"),
)
# What an evaluation may do otherwise than the run's own.
EVALUABLE = ("eval.env", "eval.num_envs", "eval.max_steps", "eval.stochastic")


def evaluate_checkpoint(
    folder: Path,
    which: str,
    *,
    episodes: int,
    seed: int | None,
    stochastic: bool,
    record: Path | None = None,
    overrides: Sequence[str] = (),
) -> dict[str, Any]:
    """Evaluate a run's checkpoint, and perhaps write its episodes to a file; -> fields named as in result.json."""
    check_run(folder)
    use_search_path(folder)
    path = find_checkpoint(folder, which)
    state = checkpoint.load(path)
    config, names = load_run(folder, state if own_checkpoint(folder, path) else None)
    config = override(config, overrides, EVALUABLE, "in an evaluation")
    config.device = config.act_device = "cpu"
    config.compile = False
    stochastic = stochastic or config.eval.get("stochastic", False)
    with usable(folder), interruptible(), closing(make_eval_env(config, episodes, trained_in(config))) as env:
        algorithm = make_algorithm(config, env)
        algorithm.restore(state["algorithm"], optimizers=False)
        seed = config.seed + EVAL_SEED if seed is None else seed
        watch = Recorder() if record is not None else None
        how: dict[str, Any] = {"explore": stochastic, "max_steps": config.eval.get("max_steps"), "record": watch}
        try:
            result = evaluate(algorithm, env, episodes, seed=seed, **how)
        except EnvFailed as error:
            note_traceback(folder, error)
            raise EnvFailed(f"{error}; the traceback is in {shown(folder / 'pgrun.log')}") from error
        if result.note:
            print(result.note, file=sys.stderr)
        if watch is not None and record is not None:
            write_demonstrations(record, watch, algorithm, env, names["env"], density=stochastic)
    return {
        **names,
        "seed": config.seed,
        "env_steps": state["clock"]["steps"],
        "updates": state["clock"]["updates"],
        "eval_return_mean": result.mean,
        "eval_return_std": result.std,
        **{f"eval_{name}_mean": mean for name, mean in result.stream_means.items()},
        "eval_episodes": len(result.returns),
        "eval_length_mean": sum(result.lengths) / len(result.lengths),
        "eval_seed": seed,
        "eval_stochastic": stochastic,
        "eval_episodes_cut": result.cut,
    }


def trained_in(config: DictConfig) -> VectorEnv | None:
    """One of training's environments, closed, for its spaces; None where evaluation's are the same."""
    if not config.eval.get("env"):
        return None
    plain = config.copy()
    plain.eval.env = {}
    env = make_env(plain, 1)
    env.close()
    return env


@contextmanager
def usable(folder: Path) -> Iterator[None]:
    """What can't be built of a run directory's config is told in one line: another version may have written it."""
    try:
        yield
    except HydraException as error:  # a class that the config names is no longer there, say
        raise UserError(instantiation(error)) from error
    except OmegaConfBaseException as error:
        written = folder / ".hydra" / "config.yaml"
        more = "another version of pgrun wrote it: go on with that one"
        raise UserError(f"{written}: {str(error).splitlines()[0]}; {more}") from error


def write_demonstrations(
    path: Path, watch: Recorder, algorithm: Algorithm, env: VectorEnv, env_id: str, *, density: bool
) -> None:
    """Write the episodes that an evaluation counted, with `density` the log-probabilities of their actions too."""
    rollout = watch.rollout()
    with torch.no_grad():
        log_prob = algorithm.log_prob(rollout) if density else None
    rollout = rollout._replace(extras={} if log_prob is None else {"log_prob": log_prob})
    save(path, to_episodes(rollout), env_id=env_id, obs_space=env.obs_space, action_space=env.action_space)


def resume_run(folder: Path, which: str, overrides: list[str]) -> int:
    """Go on with a run; -> the exit code."""
    begin = time.perf_counter()
    config, names, state, stamp = read_run(folder, which)
    config = override(config, overrides, RESUMABLE, "when a run is resumed")
    if state is not None and (over := why_over(state, config, folder)):
        say(f"{shown(folder.resolve())} is finished: {over}")
        return 0
    with alone(folder):
        if stamp != stamp_of(find_checkpoint(folder, which)):  # another process went on with it in the meantime
            raise UserError(f"{folder}: another process has just gone on with this run; do it again")
        return go_on(folder, config, names, state, overrides, begin=begin)


def read_run(
    folder: Path, which: str
) -> tuple[DictConfig, dict[str, str], dict[str, Any] | None, tuple[Path, int] | None]:
    """A run's config and names, the checkpoint's content that it goes on from, if there is one, and its stamp."""
    check_run(folder)
    use_search_path(folder)
    path = find_checkpoint(folder, which)
    stamp = stamp_of(path)
    state = checkpoint.load(path) if stamp or which != "latest" else None
    if state is not None and "memory" not in state:
        raise UserError(f"{path} holds the policy alone, for evaluation; resume from latest or a step_<n>.pt")
    config, names = load_run(folder, state if own_checkpoint(folder, path) else None)
    if state is None:
        check_begun(folder)
    return config, names, state, stamp


def stamp_of(path: Path) -> tuple[Path, int] | None:
    """Return what changes when a checkpoint is written anew; None where there is none."""
    return (path.resolve(), path.stat().st_mtime_ns) if path.exists() else None


def go_on(
    folder: Path,
    config: DictConfig,
    names: dict[str, str],
    state: dict[str, Any] | None,
    overrides: list[str],
    *,
    begin: float,
) -> int:
    """Go on with a run from a checkpoint's content, or from its start; -> the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    to_file = logging.FileHandler(folder / "pgrun.log", encoding="utf-8")  # where the first session's lines are
    to_file.setFormatter(logging.Formatter("%(message)s"))
    logging.getLogger("pgrun").addHandler(to_file)
    with usable(folder):
        parts = build(config, fresh=state is None)
    if state is None:
        remark("there is no checkpoint yet: starting from step 0")
    remember(folder, config, overrides)
    known: dict[str, Any] = {"names": names, "hydra": hydra_of(folder), "told": told(folder)}
    result = Run(config, parts, folder.resolve(), begin=begin, resume=state, **known).execute()
    if result["status"] == "interrupted":
        remark(f"interrupted; go on with: pgrun resume {pasted(folder.resolve())}")
        return 130
    summary(folder.resolve(), result)
    return 0


def why_over(state: dict[str, Any], config: DictConfig, folder: Path) -> str:
    """Why there is nothing to do for this run; empty where there is (if only the final evaluation)."""
    result = folder / "result.json"
    if not result.exists() or json.loads(result.read_text(encoding="utf-8")).get("status") != "finished":
        return ""
    steps, stop_at, latest = state["clock"]["steps"], config.eval.stop_at, state["evaluation"]["latest"]
    if steps >= config.total_steps:
        return f"{steps:,} steps; to go on: pgrun resume {pasted(folder.absolute())} total_steps={2 * steps}"
    if stop_at is not None and latest is not None and latest >= stop_at:
        again = f"pgrun resume {pasted(folder.absolute())} eval.stop_at=null"
        return f"an evaluation reached eval.stop_at={stop_at}; to go on: {again}"
    return ""


def override(config: DictConfig, overrides: Sequence[str], able: Sequence[str], when: str) -> DictConfig:
    """The run's config with values changed that may be; `able` names these, or what they are in."""
    known = [key for key in keys(config) if within(key, able)] + [key for key in able if key.startswith("eval.")]
    for text in overrides:
        key, equals, _ = text.partition("=")
        if not equals:
            raise UserError(f"can't read {text!r}: write key=value")
        if key not in known and not key.startswith("eval.env."):  # that has the keys of `env`
            close = f"eval.{key}" if key.startswith("env.") and "eval.env" in known else nearest(key, known, 1)[0]
            raise UserError(f"{key} can't change {when}; {', '.join(able)} can (did you mean {close}?)")
        try:
            if key.startswith("eval.env."):
                OmegaConf.set_struct(config, False)
                found = OverridesParser.create().parse_override(f"++{text}").value()
                OmegaConf.update(config, key, found, force_add=True)
            else:
                config = DictConfig(OmegaConf.merge(config, OmegaConf.from_dotlist([text])))
        except HydraException as error:
            raise UserError(unreadable(text)) from error
        except OmegaConfBaseException as error:
            raise UserError(str(error).splitlines()[0]) from error
    validate_keys(config, (text.partition("=")[0] for text in overrides))
    return config


def within(key: str, names: Sequence[str]) -> bool:
    """Whether a dotted key is one of these, or in one."""
    return any(key == name or key.startswith(f"{name}.") for name in names)
