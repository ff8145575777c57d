"""Independent deep deterministic policy gradient."""

from __future__ import annotations

from pgrun.algos.maddpg import MADDPG


class IDDPG(MADDPG):
    """MADDPG with critics that see only their own agent: each agent learns by DDPG, as if the others were environment.

    The comparison in Lowe et al. 2017, https://arxiv.org/abs/1706.02275, section 5.
    """

    central = False
