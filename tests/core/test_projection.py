import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch.testing import assert_close

from pgrun.core.projection import project_to_trust_region


def solved(g, k, delta):
    """min ½|g − z|² subject to kᵀz ≤ δ, by a general solver."""
    inside = {"type": "ineq", "fun": lambda z: delta - k @ z, "jac": lambda z: -k}
    answer = minimize(
        lambda z: 0.5 * ((g - z) ** 2).sum(), np.zeros_like(g), jac=lambda z: z - g, constraints=[inside], tol=1e-12
    )
    assert answer.success
    return answer.x


@pytest.mark.parametrize("delta", [0.0, 0.3, 5.0])
def test_the_projection_solves_the_quadratic_program(delta):
    g, k = torch.randn(2, 4, 5, 3, dtype=torch.float64)
    z = project_to_trust_region(g, k, delta)
    want = [solved(a, b, delta) for a, b in zip(g.flatten(0, 1).numpy(), k.flatten(0, 1).numpy(), strict=True)]
    assert_close(z.flatten(0, 1), torch.tensor(np.stack(want)), rtol=1e-5, atol=1e-6)
    moved = (z != g).any(-1)
    assert torch.equal(moved, (k * g).sum(-1) > delta)
    assert_close((k * z).sum(-1)[moved], torch.full((int(moved.sum()),), delta, dtype=torch.float64))


def test_without_a_direction_nothing_is_projected():
    g = torch.randn(3, 2)
    assert torch.equal(project_to_trust_region(g, torch.zeros(3, 2), 1.0), g)
