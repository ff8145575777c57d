"""Make the vector environment of a config's `env` group."""

from __future__ import annotations

import difflib
import functools
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, get_args

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import load_env_creator
from gymnasium.vector import AutoresetMode

from pgrun.config.ranges import Count
from pgrun.envs.arguments import Arguments
from pgrun.envs.batch import trust_actions
from pgrun.envs.checked import Checked, Known
from pgrun.envs.classic import tensor_env
from pgrun.envs.gymnasium import GymVectorEnv, sub_seeds
from pgrun.envs.infos import SUCCESS, Over
from pgrun.envs.interface import check_spaces
from pgrun.envs.one_copy import NOTHING
from pgrun.envs.processes import Processes
from pgrun.envs.stack import Stack
from pgrun.envs.state import Stateful
from pgrun.envs.tensor import TensorEnv
from pgrun.envs.vector import Copies
from pgrun.envs.wrapping import wrapped
from pgrun.errors import UserError, told
from pgrun.system.randomness import seed_generators

log = logging.getLogger("pgrun")
Backend = Literal["auto", "native", "sync", "async", "envpool", "tensor"]
BACKENDS = get_args(Backend)
GYMNASIUMS = ("num_envs", "max_episode_steps", "render_mode")  # arguments that Gymnasium itself takes or gives


def make(
    *,
    id: str,
    num_envs: Count,
    backend: Backend,
    autoreset: Literal["same_step", "next_step"],
    max_episode_steps: Count | None,
    extra: str | None,
    kwargs: Mapping[str, Any],
    wrappers: Sequence[Callable[[gym.Env], gym.Env]],
    seed: int,
    float64: bool = False,
    reads: Mapping[str, Over] = NOTHING,
    stack: Count = 1,
) -> GymVectorEnv | TensorEnv:
    """Make B copies of a Gymnasium environment.

    Args:
        id: the environment's Gymnasium id, or module:Id-v0 of a package of yours.
        num_envs: B, copies side by side.
        backend: native (vectorised by itself), sync (one process), async (a process each), envpool, or tensor (pgrun's
            own classic control); auto: native where there is one, else sync.
        autoreset: how sync and async start the next episode: in the same step, or in the next one with a row that is
            left out.
        max_episode_steps: truncate episodes here (in frames, on Atari); null: the environment's own limit.
        extra: the pgrun extra that installs it.
        kwargs: arguments of the environment itself.
        wrappers: Gymnasium wrappers, innermost first: {_target_: …, _partial_: true, …}.
        seed: of the copies, until they are reset with one.
        float64: keep 64-bit numbers until network.normalize_obs has taken the mean off.
        reads: keys of `info` whose numbers are wanted, beside is_success, and how to reduce each over an episode.
        stack: how many of the latest observations a policy sees as one; vectors end to end, images as more channels.

    Raises:
        UserError: an id, backend or combination that can't be had, or a package that is missing.
    """
    if backend not in BACKENDS:
        raise UserError(f"env.backend={backend} is not known; choose one of {', '.join(BACKENDS)}")
    if autoreset not in ("same_step", "next_step"):
        raise UserError(f"env.autoreset={autoreset} is not known; choose same_step or next_step")
    with making(id, extra):
        if backend == "tensor":
            asked = {"env.wrappers": wrappers, f"env.stack={stack}": stack > 1, "hooks that read info": reads}
            return tensor_env(id, num_envs, max_episode_steps, kwargs, asked, seed)
        how = (backend, autoreset, max_episode_steps, dict(kwargs), wrappers, float64, seed, reads, stack)
        return _make(id, num_envs, *how)


@contextmanager
def making(id: str, extra: str | None) -> Iterator[None]:
    """Turn what goes wrong as an environment is made in the block into one line.

    Args:
        id: the environment's.
        extra: the pgrun extra that installs it.

    Raises:
        UserError: it is not registered, a package is missing, or it can't be made.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a newer version exists; a bound's precision was lowered
            yield
    except gym.error.DependencyNotInstalled as error:
        raise UserError(_missing(id, extra, error)) from error
    except ModuleNotFoundError as error:
        raise UserError(_missing(id, extra, error)) from error
    except (gym.error.UnregisteredEnv, gym.error.DeprecatedEnv) as error:
        raise UserError(unknown(id)) from error
    except gym.error.Error as error:
        if "Malformed environment ID" in str(error) or "No registered env" in str(error):
            raise UserError(unknown(id)) from error
        if str(error).startswith("No registered env with id"):  # a name without its version
            raise UserError(unknown(id)) from error
        raise UserError(f"env.id={id}: {str(error).splitlines()[0]}") from error
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"env.id={id} can't be made ({told(error)})") from error


def _make(
    id: str,
    num_envs: int,
    backend: str,
    autoreset: str,
    limit: int | None,
    kwargs: dict[str, Any],
    wrappers: Sequence[Callable[[gym.Env], gym.Env]],
    float64: bool,
    seed: int,
    reads: Mapping[str, Over],
    stack: int,
) -> GymVectorEnv:
    if backend == "envpool":
        if stack > 1:
            raise UserError(f"env.backend=envpool takes no env.stack={stack}; use env.backend=sync or async")
        return _envpool(id, num_envs, limit, kwargs, wrappers, float64, seed, reads)
    module, _, name = id.rpartition(":")
    spec = gym.spec(id) if not module else _imported_spec(module, name)
    has_native = spec.vector_entry_point is not None and not wrappers and stack == 1
    if backend == "native" and not has_native:
        round_one = "wrappers" if wrappers else f"env.stack={stack}" if stack > 1 else ""
        why = f"{round_one} can't be put round one" if round_one else "it has none"
        raise UserError(f"env.backend=native: {id} can't be natively vectorised ({why}); use env.backend=sync or async")
    if limit is not None:
        kwargs["max_episode_steps"] = limit
    if backend == "native" or (backend == "auto" and has_native):
        arguments = given(id, spec.vector_entry_point, spec, kwargs)
        vectorised = functools.partial(gym.make_vec, id, vectorization_mode="vector_entry_point")

        def native(num_envs: int) -> Any:
            return arguments.call(functools.partial(vectorised, num_envs=num_envs), "can't be made")

        env = native(num_envs=num_envs)
        trust_actions(env.unwrapped)
        mode = env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
        if mode == AutoresetMode.DISABLED:
            raise UserError(f"{id} does not reset its copies by itself; use env.backend=sync or async")
        return GymVectorEnv(
            env,
            num_envs=num_envs,
            same_step=mode == AutoresetMode.SAME_STEP,
            stateful="native",
            float64=float64,
            name=id,
            resize=native,
            reads=reads,
        )
    known = Known(id, sub_seeds(seed, num_envs), float64)

    def copy(index: int) -> Callable[[], gym.Env]:
        def build(changed: Mapping[str, Any] = NOTHING) -> gym.Env:
            if os.getpid() != known.process:
                seed_generators(known.seeds[index])
            if "mujoco" in str(spec.entry_point):
                log_mujoco_warnings()
            arguments = given(id, spec.entry_point, spec, {**kwargs, **changed})
            env = arguments.call(functools.partial(gym.make, id, disable_env_checker=True), "can't be made")
            check_spaces(env, id)
            env = wrapped(env, wrappers)
            return Checked(Stateful(Stack(env, stack, id) if stack > 1 else env, index), known)

        return build

    same = autoreset == "same_step"
    kind = Processes if backend == "async" else Copies
    envs = kind([copy(i) for i in range(num_envs)], same_step=same, reads={SUCCESS: "last", **reads})
    return GymVectorEnv(envs, num_envs=num_envs, same_step=same, stateful="copies", float64=float64, reads=reads)


def _envpool(
    id: str,
    num_envs: int,
    limit: int | None,
    kwargs: dict[str, Any],
    wrappers: Sequence[Any],
    float64: bool,
    seed: int,
    reads: Mapping[str, Over],
) -> GymVectorEnv:
    if wrappers:
        raise UserError("env.backend=envpool takes no env.wrappers; use env.backend=sync or async")
    try:
        import envpool
    except ImportError as error:
        raise UserError("env.backend=envpool needs envpool: pip install 'pgrun[envpool]'") from error
    if limit is not None:
        kwargs["max_episode_steps"] = limit
    if id not in envpool.list_all_envs():
        near = difflib.get_close_matches(id, envpool.list_all_envs(), 3)
        raise UserError(f"env.backend=envpool has no {id}" + (f"; it has {', '.join(near)}" if near else ""))

    def make(seed: int) -> Any:
        first = int(np.random.SeedSequence(seed).generate_state(1)[0] % 2**31)
        made = functools.partial(envpool.make, id, env_type="gymnasium", num_envs=num_envs, seed=first)
        return Arguments(None, kwargs, label=f"env.kwargs: {id}", way="").call(made, "can't be made")

    return GymVectorEnv(
        make(seed),
        num_envs=num_envs,
        same_step=False,
        stateful="envpool keeps its state to itself",
        float64=float64,
        name=id,
        remake=make,
        reads=reads,
    )


def log_mujoco_warnings() -> None:
    """Send MuJoCo's warnings to the log, each once, instead of to MUJOCO_LOG.TXT in the working directory."""
    try:
        import mujoco
    except ImportError:
        return
    told: set[str] = set()

    def tell(text: str) -> None:
        if text not in told:
            told.add(text)
            log.log(logging.DEBUG if "deprecated" in text else logging.WARNING, "MuJoCo: %s", text)

    if mujoco.get_mju_user_warning() is None:
        mujoco.set_mju_user_warning(tell)


def given(id: str, entry_point: Any, spec: Any, kwargs: Mapping[str, Any]) -> Arguments:
    """Check an environment's arguments against its entry point; its registration may give some."""
    try:
        target = load_env_creator(entry_point) if isinstance(entry_point, str) else entry_point
    except Exception:  # the error comes again when it is made
        target = None
    registered = [*GYMNASIUMS, *(name for name in spec.kwargs if name not in kwargs)]
    return Arguments(target, kwargs, label=f"env.kwargs: {id}", way="+env.kwargs.{}=…", others=registered)


def _imported_spec(module: str, name: str) -> Any:
    __import__(module)
    return gym.spec(name)


def _missing(id: str, extra: str | None, error: Exception) -> str:
    if extra is not None:
        return f"{id} needs a package that is not installed: pip install 'pgrun[{extra}]'"
    own = id.rpartition(":")[0].split(".")[0]
    if own and getattr(error, "name", None) == own:
        places = "it is not installed, nor in the working directory or beside --config-dir"
        return f"env.id={id}: there is no module {own}: {places}"
    return f"{id} needs a package that is not installed: {str(error).splitlines()[0]}"


def unknown(id: str) -> str:
    """Say in one line that an id is not registered, and what it may have been meant as."""
    module, _, name = id.rpartition(":")
    kind = getattr(sys.modules.get(module), name, None)  # a class is named where its id is meant
    near = [f"{module}:{spec.id}" for spec in gym.registry.values() if kind and spec.entry_point in (kind, id)]
    near = near or difflib.get_close_matches(name, list(gym.registry), 3)
    if near:
        hint = f"; did you mean {', '.join(near)}?"
    elif kind:
        hint = f": it is a class; add gymnasium.register({name + '-v0'!r}, {name}) to {module}, and name {id}-v0"
    else:
        hint = "; a package of yours is named as module:Id-v0"
    return f"env.id={id} is not a registered Gymnasium environment{hint}"
