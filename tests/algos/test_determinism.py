"""A seed decides every bit of a run."""

import pytest
import torch
from probes import run
from recipes import FEW_UPDATES, sampled


def outcome(name, seed):
    """Every parameter and statistic after the run, and the optimizers' state."""
    parts, clock = run(f"algo={name.split()[0]}", *FEW_UPDATES[name], f"seed={seed}")
    assert clock.updates > 3
    state = parts.algorithm.snapshot()
    tensors = dict(state["module"])
    for name, optimizer in state["optimizers"].items():
        tensors |= {f"{name}.{key}": value for key, value in optimizer.items()}
    return {key: value.clone() for key, value in tensors.items()}


@pytest.mark.parametrize("name", sampled(list(FEW_UPDATES), 5))
def test_one_seed_one_result_another_seed_another(name):
    first, again, other = outcome(name, 3), outcome(name, 3), outcome(name, 4)
    assert first.keys() == again.keys()
    assert [key for key in first if not torch.equal(first[key], again[key])] == []
    weights = [key for key in first if key.startswith(("model.", "actor.", "q.")) and first[key].dim() > 1]
    assert weights
    assert not any(torch.equal(first[key], other[key]) for key in weights)
