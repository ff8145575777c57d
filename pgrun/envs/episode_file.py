"""Files of whole episodes: demonstrations.

Such a file is a NumPy archive (.npz) of N steps in E episodes, one after the other:

    observations        [N, *O]  the policy's observations; of a Dict space `observations/KEY` for each of its keys
    actions             [N, *A]  its actions, as a policy has them: a bounded Box coordinate runs over [−1, 1] (and is
                                 not clipped to it), a Discrete action from 0 on
    rewards             [N]
    terminations        [N]      bool: the MDP ended here
    truncations         [N]      bool: the episode was cut here
    episode_starts      [N]      bool: an episode begins here; the first row is one
    final_observations  [E, *O]  each episode's last observation (`final_observations/KEY`); may be left out if
                                 every episode ends in a termination
    log_probs           [N]      optional: log μ(a|s) of the policy that acted
    env_id, observation_space, action_space, format: the environment, its spaces as JSON as a policy sees them, and
        the version of this format

`pgrun eval RUN --record FILE` writes it. `csv_file` reads the same from a table, and `minari:ID` reads a dataset of
Minari's (https://minari.farama.org).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from pgrun.core.importance import final_steps, steps
from pgrun.data.hybrid import Hybrid
from pgrun.data.stepping import finite_where
from pgrun.data.types import Transition, map_obs, map_transition
from pgrun.envs.array_file import read_arrays
from pgrun.envs.codecs import HUGE, observation_codec
from pgrun.envs.csv_file import CsvFile
from pgrun.errors import UserError, told

spaces = gym.spaces
FORMAT = 1
MOST_PADDED = 50_000_000  # steps, at most, that whole episodes take where they are padded to one length
READ = (
    *("observations", "final_observations", "actions", "rewards", "terminations", "truncations", "episode_starts"),
    *("log_probs", "observation_space", "action_space", "format"),
)
ROWS = ("actions", "rewards", "terminations", "truncations", "episode_starts")


def episodes(rollout: Transition) -> Transition:
    """Put the episodes of a rollout [T, B, ...] in columns [L, E, ...].

    L is the longest episode's length; shorter ones are padded with valid=False.
    """
    valid = rollout.valid.T.flatten()  # [B·T]: column by column, so that an episode's steps lie together
    step = steps(rollout.last, rollout.valid).T.flatten()[valid]
    of = (step == 0).cumsum(0) - 1  # the episode that each of the N steps belongs to
    flat = map_transition(lambda x: x.transpose(0, 1).flatten(0, 1)[valid], rollout)
    final = final_steps(rollout.last, rollout.valid).T.flatten()[valid]
    return _columns(flat._replace(last=final), step, of)


def _columns(flat: Transition, step: Tensor, of: Tensor) -> Transition:
    """Put N steps into episodes [L, E, ...]; step and of [N] say which step of which episode each is."""
    length, count = int(step.max()) + 1, int(of.max()) + 1

    def place(x: Tensor) -> Tensor:
        out = x.new_zeros((length, count, *x.shape[1:]))
        out[step, of] = x
        return out

    return map_transition(place, flat)


def save(path: Path, data: Transition, *, env_id: str, obs_space: gym.Space, action_space: gym.Space) -> None:
    """Write episodes [L, E, ...], one a column, with extras["log_prob"] if it is there.

    Raises:
        UserError: the file can't be written, or several agents act at once.
    """
    if isinstance(action_space, gym.spaces.Dict):
        raise UserError("demonstrations are of one agent, and here several act at once")
    valid = data.valid.T

    def rows(x: Tensor) -> np.ndarray:
        return x.transpose(0, 1)[valid].cpu().numpy()

    last, ended = rows(data.last), rows(data.discount) == 0.0
    arrays: dict[str, Any] = {
        **_named("observations", map_obs(rows, data.obs)),
        "actions": rows(data.action),
        "rewards": rows(data.reward),
        "terminations": last & ended,
        "truncations": last & ~ended,
        "episode_starts": rows(steps(data.last, data.valid) == 0),
        **_named("final_observations", map_obs(lambda x: rows(x)[last], data.next_obs)),
        "env_id": env_id,
        "observation_space": json.dumps(describe(obs_space)),
        "action_space": json.dumps(describe(action_space)),
        "format": FORMAT,
    }
    if "log_prob" in data.extras:
        arrays["log_probs"] = rows(data.extras["log_prob"])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:
            np.savez_compressed(file, **arrays)
    except OSError as error:
        raise UserError(f"can't write {path}: {error.strerror or error}") from error


def _named(name: str, obs: Any) -> dict[str, Any]:
    return {f"{name}/{key}": value for key, value in obs.items()} if isinstance(obs, dict) else {name: obs}


def describe(space: gym.Space) -> dict[str, Any]:
    """Return a space's kind and sizes as plain values."""
    if isinstance(space, spaces.Dict):
        return {"type": "Dict", "spaces": {key: describe(part) for key, part in space.items()}}
    if isinstance(space, spaces.Discrete):
        return {"type": "Discrete", "n": int(space.n)}
    sizes = {"nvec": space.nvec.flatten().tolist()} if isinstance(space, spaces.MultiDiscrete) else {}
    return {"type": type(space).__name__, "shape": list(space.shape or ()), **sizes}


def load(source: str, obs_space: gym.Space, action_space: gym.Space, taken: gym.Space | None = None) -> Transition:
    """Load the episodes of a file or of `minari:ID`, one a column: [L, E, ...].

    Args:
        source: a file's name or minari:ID.
        obs_space: as the policy sees it.
        action_space: as the policy sees it.
        taken: the environment's own action space, in whose units a CSV file has actions; None: as the policy's.

    Raises:
        UserError: the source can't be read, or has other spaces.
    """
    if source.startswith("minari:"):
        data = _from_minari(source, obs_space, action_space)
    elif Path(source).suffix.lower() == ".csv":
        own = action_space if taken is None else taken
        if isinstance(action_space, Hybrid):
            raise UserError(f"{source}: a table has actions of one part, and here they are {own}: record an .npz file")
        arrays = CsvFile(_there(Path(source)), obs_space, own).arrays()
        arrays["actions"] = canonical(own, arrays["actions"])
        data = _from_arrays(source, arrays, obs_space, action_space)
    else:
        try:
            data = _from_arrays(source, read_arrays(_there(Path(source)), READ), obs_space, action_space)
        except (ValueError, TypeError, IndexError, OverflowError, RecursionError, RuntimeError) as error:
            raise UserError(
                f"{source} holds arrays of another kind than demonstrations have ({told(error)})"
            ) from error
    data = data._replace(next_obs=finite_where(data.next_obs, data.discount == 0.0))
    seen = [x for obs in (data.obs, data.next_obs) for x in (obs.values() if isinstance(obs, dict) else [obs])]
    for x in (*seen, data.action, data.reward):
        if x.is_floating_point() and not bool(torch.isfinite(x).all()):
            raise UserError(f"{source} holds numbers that are not finite")
    return data


def _there(path: Path) -> Path:
    if not path.is_file():
        instead = path.with_suffix(".npz")
        raise UserError(f"there is no file of demonstrations {path}; pgrun eval RUN --record {instead} writes one")
    return path


def _from_arrays(source: str, a: dict[str, np.ndarray], obs_space: gym.Space, action_space: gym.Space) -> Transition:
    if int(a.get("format", np.array(FORMAT))) != FORMAT:
        raise UserError(f"{source} is in format {a['format']}, not in this version's ({FORMAT})")
    for key, space in (("observation_space", obs_space), ("action_space", action_space)):
        if key in a and json.loads(str(a[key])) != describe(space):
            raise UserError(f"{source} has the {key} {a[key]}; this environment's is {json.dumps(describe(space))}")
    keys = list(obs_space.keys()) if isinstance(obs_space, spaces.Dict) else []
    names = [f"observations/{key}" for key in keys] or ["observations"]
    if missing := [key for key in (*names, *ROWS) if key not in a]:
        raise UserError(f"{source} is no file of demonstrations: it has no {', '.join(missing)}")
    n = len(a["rewards"])
    optional = ["log_probs"] if "log_probs" in a else []
    if odd := [key for key in (*names, *ROWS, *optional) if a[key].ndim == 0 or len(a[key]) != n]:
        raise UserError(f"{source}: {odd[0]} should have {n} rows, as rewards has, not {a[odd[0]].shape}")
    starts = a["episode_starts"].astype(bool)
    if not n or not starts[0]:
        raise UserError(f"{source} holds no whole episode: the first of its {n} steps should be an episode's start")
    last = np.append(starts[1:], True)
    discount = 1.0 - a["terminations"].astype(np.float32)
    if (a["terminations"] | a["truncations"])[~last].any():
        raise UserError(f"{source}: an episode goes on after its end; each ends where the next one starts")
    count = int(starts.sum())

    def part(name: str, space: gym.Space) -> tuple[Tensor, Tensor]:
        x = a[name].astype(space.dtype)
        if x.shape[1:] != space.shape:
            raise UserError(f"{source}: {name} has the shape {x.shape[1:]}; this environment's is {space.shape}")
        final = a.get(name.replace("observations", "final_observations", 1))
        if final is None and bool((discount[last] != 0).any()):
            raise UserError(f"{source} has episodes that are cut, not ended; final_observations must say where")
        if final is not None and len(final) != count:
            raise UserError(f"{source}: final_observations should have {count} rows, one for each episode")
        after = np.concatenate([x[1:], x[-1:]])
        after[last] = x[last] if final is None else final.astype(x.dtype)
        return torch.from_numpy(x), torch.from_numpy(after)

    if isinstance(obs_space, spaces.Dict):
        both = {key: part(f"observations/{key}", obs_space[key]) for key in keys}
        obs: Any = {key: x[0] for key, x in both.items()}
        next_obs: Any = {key: x[1] for key, x in both.items()}
    else:
        obs, next_obs = part("observations", obs_space)
    action = torch.from_numpy(a["actions"].astype(np.float32 if _floating(action_space) else np.int64))
    if action.shape[1:] != (action_space.shape or ()):
        raise UserError(f"{source}: actions have the shape {tuple(action.shape[1:])}, not {action_space.shape}")
    if isinstance(action_space, spaces.Discrete) and not bool(((action >= 0) & (action < int(action_space.n))).all()):
        raise UserError(f"{source}: actions should lie in 0 … {int(action_space.n) - 1}")
    flat = Transition(
        obs,
        action,
        torch.from_numpy(a["rewards"].astype(np.float32)),
        torch.from_numpy(discount),
        next_obs,
        torch.from_numpy(last),
        torch.ones(n, dtype=torch.bool),
        {"log_prob": torch.from_numpy(a["log_probs"].astype(np.float32))} if optional else {},
    )
    longest = int(np.diff(np.append(np.flatnonzero(starts), n)).max())
    if longest * count > max(MOST_PADDED, 1000 * n):
        raise UserError(
            f"{source}: the longest of its {count:,} episodes has {longest:,} steps, and there are {n:,} in all: "
            "padded to one length they would not fit; leave the longest out"
        )
    of = torch.from_numpy(starts.cumsum() - 1)
    first = torch.from_numpy(np.flatnonzero(starts))
    return _columns(flat, torch.arange(n) - first[of], of)


def _floating(space: gym.Space) -> bool:
    return isinstance(space, (spaces.Box, spaces.MultiBinary, Hybrid))


def _from_minari(source: str, obs_space: gym.Space, action_space: gym.Space) -> Transition:
    try:
        import minari
    except ImportError as error:
        raise UserError(f"{source} needs the package minari: pip install 'pgrun[minari]'") from error
    try:
        dataset = minari.load_dataset(source.removeprefix("minari:"))
    except Exception as error:  # a missing one is a FileNotFoundError, a bad id a ValueError, and so on
        raise UserError(f"{source} can't be read: {str(error).splitlines()[0] if str(error) else error!r}") from error
    space, to_tensor = observation_codec(dataset.observation_space)
    arrays: dict[str, list[np.ndarray]] = {}

    def add(key: str, value: Any) -> None:
        arrays.setdefault(key, []).append(np.asarray(value))

    for episode in dataset.iterate_episodes():
        obs = to_tensor(episode.observations)  # one more than there are steps
        for key, x in _named("observations", obs).items():
            add(key, x[:-1])
            add(f"final_{key}", x[-1:])
        n = len(episode.rewards)
        add("actions", canonical(dataset.action_space, episode.actions))
        add("rewards", episode.rewards)
        add("terminations", episode.terminations)
        add("truncations", episode.truncations)
        add("episode_starts", np.arange(n) == 0)
    if not arrays:
        raise UserError(f"{source} holds no episodes")
    merged: dict[str, Any] = {key: np.concatenate(parts) for key, parts in arrays.items()}
    merged["observation_space"] = np.array(json.dumps(describe(space)))
    return _from_arrays(source, merged, obs_space, action_space)


def canonical(space: gym.Space, actions: Any) -> np.ndarray:
    """Turn an environment's own actions [N, …] into a policy's: the inverse of `action_codec`."""
    a = np.asarray(actions)
    if isinstance(space, spaces.Discrete):
        return a.astype(np.int64) - int(space.start)
    if isinstance(space, spaces.MultiDiscrete):
        return (a.astype(np.int64) - space.start).reshape(len(a), -1)
    if isinstance(space, spaces.Box):
        low, high = space.low.astype(np.float64), space.high.astype(np.float64)
        bounded = (np.abs(low) < HUGE) & (np.abs(high) < HUGE)
        low, high = np.where(bounded, low, -1.0), np.where(bounded, high, 1.0)
        half = np.where(high > low, (high - low) / 2.0, 1.0)
        return ((a - (high + low) / 2.0) / half).astype(np.float32).reshape(len(a), -1)
    return a.astype(np.float32).reshape(len(a), -1)
