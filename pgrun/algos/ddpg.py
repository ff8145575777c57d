"""Deep deterministic policy gradient."""

from __future__ import annotations

from pgrun.algos.td3 import TD3


class DDPG(TD3):
    """TD3 with its three changes taken out, as configs/algo/ddpg.yaml does: one critic, no delay, no smoothing.

    Lillicrap et al. 2016, https://arxiv.org/abs/1509.02971, algorithm 1.
    """
