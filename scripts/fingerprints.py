"""Hash the results of short trainings, to prove that a change of the code changed no number.

    python scripts/fingerprints.py --against main        # this checkout beside another commit: every case has to agree
    python scripts/fingerprints.py --against main ppo    # only the cases whose names have this in them
    python scripts/fingerprints.py --write               # this checkout alone; --against FILE.csv reads it again

Each case runs `pgrun` in a process of its own (resumed ones in two) and hashes the tensors of its last checkpoint, bit
for bit: the algorithm's, and what the collector and the memory hold. Names don't count, so that attributes and state
keys may be renamed: the algorithm's tensors are taken in their own order, those of the rest sorted by their hashes.

The hashes are those of one machine and one version of torch, so two commits are compared on the same one.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "scripts" / "results" / "fingerprints.csv"

NET = ("network=mlp", "network.hidden=[16]")
POLE = (*NET, "env=cartpole", "num_envs=4")
SWING = (*NET, "env=pendulum", "num_envs=4")
ROLL = ("algo.rollout=32", "algo.minibatch=64")
REPLAY = (*NET, "env=pendulum", "memory.warmup=50", "memory.batch_size=16", "total_steps=120")
AGENTS = (*NET, "num_envs=2", "algo.rollout=5", "memory.warmup=30", "memory.batch_size=16", "total_steps=120")
EPISODES = "demos.npz"  # where a case asks for demonstrations, they are recorded in its folder first

CASES: dict[str, tuple[str, ...]] = {
    # every algorithm
    "reinforce": ("algo=reinforce", *POLE, "total_steps=600"),
    "actor_critic": ("algo=actor_critic", *POLE, "total_steps=400"),
    "a2c": ("algo=a2c", *POLE, "total_steps=400"),
    "vpg": ("algo=vpg", *POLE, "algo.rollout=32", "total_steps=600"),
    "npg": ("algo=npg", *POLE, "algo.rollout=32", "total_steps=600"),
    "trpo": ("algo=trpo", *POLE, "algo.rollout=32", "total_steps=600"),
    "ppo": ("algo=ppo", *POLE, *ROLL, "total_steps=400"),
    "ppo_kl": ("algo=ppo_kl", *POLE, *ROLL, "total_steps=400"),
    "grpo": ("algo=grpo", *POLE, "algo.group=2", "total_steps=600"),
    "acktr": ("algo=acktr", *POLE, "total_steps=600"),
    "mdpo": ("algo=mdpo", *SWING, *ROLL, "total_steps=640"),
    "vmpo": ("algo=vmpo", *SWING, *ROLL, "total_steps=640"),
    "acer": ("algo=acer", *POLE, "memory.warmup=100", "total_steps=400"),
    "offpolicy_pg": ("algo=offpolicy_pg", *POLE, "algo.rollout=32", "total_steps=400"),
    "behaviour_cloning": ("algo=behaviour_cloning", *POLE, f"demonstrations={EPISODES}", "total_steps=400"),
    "gps": ("algo=gps", *NET, "env=sparse_reach", "env.max_episode_steps=20", "num_envs=4", "total_steps=400"),
    "a3c": ("algo=a3c", *POLE, "parallel=none", "workers=1", "total_steps=400"),
    "dppo": ("algo=dppo", *POLE, "parallel=none", "workers=1", "total_steps=800"),
    "dpg": ("algo=dpg", *SWING, "total_steps=400"),
    "dpg_offpolicy": ("algo=dpg_offpolicy", *NET, "env=lqr", "num_envs=4", "total_steps=400"),
    "ddpg": ("algo=ddpg", *REPLAY, "algo/exploration=ou"),
    "td3": ("algo=td3", *REPLAY),
    "d4pg": ("algo=d4pg", *REPLAY, "memory=prioritized", "memory.n_step=3"),
    "sac": ("algo=sac", *REPLAY),
    "redq": ("algo=redq", *REPLAY, "memory.updates=3"),
    "sac_v1": ("algo=sac_v1", *REPLAY),
    "mdpo_offpolicy": ("algo=mdpo_offpolicy", *REPLAY, "algo.mirror_every=7"),
    "sac_discrete": ("algo=sac_discrete", *REPLAY, "env=cartpole"),
    "sql": ("algo=sql", *REPLAY, "env=multi_goal", "memory.batch_size=8"),
    "dqn": ("algo=dqn", *REPLAY, "env=cartpole", "memory=prioritized", "algo.rollout=4", "algo.target_every=3"),
    "maddpg": ("algo=maddpg", *AGENTS, "env=simple_speaker_listener", "algo.ensembles=2", "algo.infer_policies=true"),
    "iddpg": ("algo=iddpg", *AGENTS, "env=simple_spread"),
    # other ways through the same code
    "a2c on Q": ("algo=actor_critic", *POLE, "algo/advantage=q", "total_steps=400"),
    "a2c on several terms": ("algo=a2c", *POLE, "algo/advantage=mixture", "total_steps=400"),
    "reinforce, optimal baseline": (
        *("algo=reinforce", *POLE, "algo/baseline=optimal", "algo.update=step"),
        "total_steps=600",
    ),
    "trpo, critic by trust region": (
        *("algo=trpo", *POLE, "algo.rollout=32", "algo/critic_fit=trust_region"),
        "total_steps=600",
    ),
    "ppo, recurrent": ("algo=ppo", "network=lstm", *POLE[2:], *ROLL, "total_steps=400"),
    "a2c, recurrent": ("algo=a2c", "network=gru", *POLE[2:], "total_steps=400"),
    "sac, recurrent": ("algo=sac", "network=gru", *REPLAY[2:], "memory=sequences"),
    "dqn, recurrent": (
        *("algo=dqn", "network=lstm", *REPLAY[2:], "env=cartpole", "memory=sequences", "algo.rollout=4"),
        *("algo.target_every=3", "memory.n_step=3"),
    ),
    "ppo, images": (
        *("algo=ppo", "env=atari", "network=cnn", "network.hidden=[8]", "num_envs=1"),
        *("algo.rollout=16", "algo.minibatch=16", "total_steps=32"),
    ),
    "ppo, continuous": ("algo=ppo", *SWING, *ROLL, "network.normalize_obs=true", "total_steps=400"),
    "ppo, kfac": ("algo=ppo", "optimizer=kfac", *SWING, *ROLL, "total_steps=400"),
    "ppo, several agents": ("algo=ppo", *NET, "env=simple_spread", "num_envs=2", "algo.rollout=8", "total_steps=240"),
    "ppo, worker environments": ("algo=ppo", *POLE, *ROLL, "env.backend=async", "total_steps=400"),
    "ppo, compiled": ("algo=ppo", *POLE, *ROLL, "compile=true", "total_steps=256"),
    "sac, compiled": ("algo=sac", *REPLAY, "compile=true"),
    "sql by chains": ("algo=sql", *REPLAY, "algo.sampler=mcmc", "algo.langevin_steps=3", "total_steps=80"),
    "ddpg, several updates": ("algo=ddpg", *REPLAY, "memory.updates=2", "algo.exploration.schedule=linear"),
    "ppo, ddp": ("algo=ppo", *POLE, *ROLL, "parallel=ddp", "workers=2", "total_steps=400"),
    "a3c, one process of its own": ("algo=a3c", *POLE, "parallel=async", "workers=1", "total_steps=400"),
    "dppo, one worker on Ray": ("algo=dppo", *POLE, "parallel=ray", "workers=1", "total_steps=800"),
    "ppo, resumed": ("algo=ppo", *POLE, *ROLL, "checkpoint.every=100", "total_steps=400"),
    "sac, resumed": ("algo=sac", *REPLAY, "checkpoint.every=40"),
    "maddpg, resumed": ("algo=maddpg", *AGENTS, "env=simple_speaker_listener", "checkpoint.every=40"),
}
SHORT = ("seed=3", "eval.every=null", "eval.final_episodes=1", "hydra.run.dir=run")


def fingerprint(name: str, package: Path) -> str:
    """Train one case; return its hash, or why there is none.

    Args:
        name: the case.
        package: the root of the checkout whose pgrun trains.
    """
    with tempfile.TemporaryDirectory(prefix="fingerprint-") as folder:
        words = CASES[name]
        if f"demonstrations={EPISODES}" in words:
            env = tuple(word for word in words if word.startswith(("env", "network", "num_envs")))
            first = ("algo=ppo", *env, *ROLL, "total_steps=256", *SHORT[:-1], "hydra.run.dir=teacher")
            commands = [first, ("eval", "teacher", "--episodes", "5", "--record", EPISODES), (*words, *SHORT)]
        elif name.endswith("resumed"):
            half = (*(word for word in words if not word.startswith("total_steps=")), "total_steps=60")
            whole = next(word for word in words if word.startswith("total_steps="))
            commands = [(*half, *SHORT), ("resume", "run", whole)]
        else:
            commands = [(*words, *SHORT)]
        for command in commands:
            done = pgrun(command, Path(folder), package)
            if done.returncode:
                said = done.stderr.strip().splitlines()
                return f"exit code {done.returncode}: {said[-1] if said else ''}"
        return hash_checkpoint(Path(folder) / "run" / "checkpoints" / "latest.pt")


def pgrun(words: tuple[str, ...], folder: Path, package: Path) -> subprocess.CompletedProcess[str]:
    """Run `pgrun WORDS` in a folder with a checkout's own code."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(package)}
    return subprocess.run(
        [sys.executable, "-m", "pgrun", *words], capture_output=True, text=True, env=env, cwd=folder, check=False
    )


def hash_checkpoint(path: Path) -> str:
    """Hash the tensors of a checkpoint, without their names."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    of_algorithm = [digest(tensor) for tensor in tensors(content["algorithm"])]
    stats = content.get("collector", {}).get("stats", {})
    stats.pop("steps", None)  # figures for curves, which decide nothing and which versions keep in their own ways
    others = sorted(digest(tensor) for part in ("collector", "memory") for tensor in tensors(content.get(part)))
    return hashlib.sha256("".join([*of_algorithm, *others]).encode()).hexdigest()[:16]


def tensors(value: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors within nested values, in their order."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from tensors(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from tensors(each)


def digest(tensor: torch.Tensor) -> str:
    """Hash a tensor's shape, type and bytes."""
    raw = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return hashlib.sha256(f"{tuple(tensor.shape)} {tensor.dtype}".encode() + raw).hexdigest()


@contextmanager
def checkout(revision: str) -> Iterator[Path]:
    """Check out a commit beside this one, for as long as it is needed."""
    with tempfile.TemporaryDirectory(prefix="checkout-") as folder:
        place = Path(folder) / "pgrun"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--detach", str(place), revision], check=True, capture_output=True)
        try:
            yield place
        finally:
            subprocess.run([*git, "remove", "--force", str(place)], check=True, capture_output=True)


def hashes(names: list[str], package: Path, jobs: int) -> dict[str, str]:
    """Train the cases with a checkout's code, some at a time."""
    with ThreadPoolExecutor(jobs) as pool:
        return dict(zip(names, pool.map(lambda name: fingerprint(name, package), names), strict=True))


def read(path: Path) -> dict[str, str]:
    """Read hashes from a file that --write has made."""
    with path.open(newline="") as file:
        return {row["case"]: row["hash"] for row in csv.DictReader(file)}


def main() -> int:
    """Hash, and compare or write."""
    parser = argparse.ArgumentParser(description="Prove that a change of the code changed no number.")
    parser.add_argument("only", nargs="*", help="parts of the names of the cases to run; all where none is given")
    parser.add_argument("--against", help="a commit, or a file of hashes of this machine")
    parser.add_argument("--write", nargs="?", type=Path, const=RESULTS, help="write the hashes to this file")
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time")
    given = parser.parse_args()
    names = [name for name in CASES if not given.only or any(part in name for part in given.only)]
    found = hashes(names, ROOT, given.jobs)
    failed = [name for name in names if found[name].startswith("exit code")]
    for name in names:
        print(f"{name:32} {found[name]}")
    if given.write:
        with given.write.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([("case", "hash"), *found.items()])
    if not given.against:
        return 1 if failed else 0
    if Path(given.against).is_file():
        before = read(Path(given.against))
    else:
        with checkout(given.against) as place:
            before = hashes(names, place, given.jobs)
    differ = [name for name in names if found[name] != before.get(name)]
    for name in differ:
        print(f"DIFFERS: {name}: {found[name]} here, {before.get(name)} there")
    print(f"{len(names) - len(differ)} of {len(names)} agree with {given.against}, {len(failed)} failed")
    return 1 if differ or failed else 0


if __name__ == "__main__":
    sys.exit(main())
