"""Deep deterministic policy gradient."""

from __future__ import annotations

from pgrun.algos.td3 import TD3


class DDPG(TD3):
    """DDPG: TD3 without its three changes, as configs/algo/ddpg.yaml sets it: one critic, no delay, no smoothing.

    Lillicrap et al. 2016, https://arxiv.org/abs/1509.02971, algorithm 1.
    """
