"""The ratio ρ_t = π(a_t|s_t) / π_old(a_t|s_t) on each minibatch, before its gradient step."""

from typing import Any

import torch
from torch import Tensor


def watch_ratios(algorithm: Any) -> list[Tensor]:
    """A list that fills with |log ρ_t| of each minibatch's valid steps, as an on-policy algorithm takes them.

    Minibatches of a critic's own fit know no old policy, and don't count.
    """
    seen: list[Tensor] = []
    plain = algorithm.minibatches

    def minibatches(*args: Any) -> Any:
        for sample in plain(*args):
            if "log_prob" in sample.extras:
                with torch.no_grad():
                    log_prob = algorithm.model.policy(sample).log_prob(sample.action)
                seen.append((log_prob - sample.extras["log_prob"])[sample.valid].abs())
            yield sample

    algorithm.minibatches = minibatches
    return seen
