"""Make demonstrations of env=sparse_reach by a scripted expert, with some noise so that they have a density.

python scripts/make_demonstrations.py demos.npz --episodes 5
pgrun algo=gps env=sparse_reach demonstrations=demos.npz
"""

from __future__ import annotations

import argparse
from pathlib import Path

import hydra
import torch
from torch import Tensor

from pgrun.collect.demonstrations import DemonstrationRecorder
from pgrun.config.paths import config_dir
from pgrun.config.resolve import resolved
from pgrun.data.types import Carry, Obs
from pgrun.envs.episode_file import episodes, save
from pgrun.loop.evaluate import evaluate
from pgrun.nn.distributions import Gaussian
from pgrun.run.environments import make_env
from pgrun.sweep.resolvers import register_resolvers


class Scripted:
    """The scripted policy: N(expert(s), σ²) for every coordinate of the action."""

    device = torch.device("cpu")

    def __init__(self, expert, noise: float) -> None:  # type: ignore[no-untyped-def]
        self.expert, self.noise = expert, noise

    def initial_carry(self, num_envs: int) -> Carry:
        return ()

    def act(self, obs: Obs, carry: Carry, explore: bool) -> tuple[Tensor, Carry, dict[str, Tensor]]:
        mean = self.expert(obs)
        pi = Gaussian(mean, torch.full_like(mean, self.noise).log())
        action = pi.sample()
        return action, carry, {"log_prob": pi.log_prob(action)}


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="the .npz file to write")
    parser.add_argument("--episodes", type=int, default=5, help="how many (5)")
    parser.add_argument("--noise", type=float, default=0.2, help="σ of the actions (0.2)")
    parser.add_argument("--seed", type=int, default=0, help="of starts and noise (0)")
    parser.add_argument("--no-density", action="store_true", help="leave log_probs out: somebody else must fit them")
    args = parser.parse_args()
    register_resolvers()
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = resolved(hydra.compose("config", overrides=["env=sparse_reach"]))
    env = make_env(config, args.episodes)
    watch = DemonstrationRecorder()
    result = evaluate(
        Scripted(env.world.expert, args.noise),  # type: ignore[arg-type, attr-defined]
        env,
        args.episodes,
        seed=args.seed,
        explore=True,
        record=watch,
    )
    rollout = watch.rollout()
    data = episodes(rollout._replace(extras={}) if args.no_density else rollout)
    save(args.file, data, env_id="sparse_reach", obs_space=env.obs_space, action_space=env.action_space)
    print(f"{args.file}: {args.episodes} episodes, return {result.mean:.2f}, {int(data.valid.sum())} steps")


if __name__ == "__main__":
    main()
