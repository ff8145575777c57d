"""Independent deep deterministic policy gradient."""

from __future__ import annotations

from pgrun.algos.maddpg import MADDPG


class IDDPG(MADDPG):
    """MADDPG with critics that see their own agent alone: each learns by DDPG, the others a part of its environment.

    The comparison in Lowe et al. 2017, https://arxiv.org/abs/1706.02275, section 5.
    """

    central = False
