"""Natural gradients and steps in a trust region, on one flat vector of parameters [P].

A trust region is a bound on a divergence from where the step begins, such as KL(π_old‖π). Close by, the divergence is ½
Δᵀ F Δ with F its Hessian, which for a KL divergence is the Fisher matrix. F is never formed: products F v are enough.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Product = Callable[[Tensor], Tensor]  # v [P] -> F v [P]


def flat_gradient(y: Tensor, parameters: Sequence[Tensor], *, keep: bool = False) -> Tensor:
    """Compute ∇y of a 0-dim tensor as one vector [P], 0 where y does not depend on a parameter.

    `keep` keeps y's graph.
    """
    return _flat(torch.autograd.grad(y, parameters, retain_graph=keep, materialize_grads=True))


def hessian_product(y: Tensor, parameters: Sequence[Tensor]) -> Product:
    """Return a function that maps v [P] to ∇²y v [P], by differentiating y's gradient once more.

    Of a mean KL divergence at the parameters where it is 0, that is the Fisher matrix times v; of the mean of (V −
    V_old)²/(2σ²) at V_old, the Gauss-Newton matrix, which is the Fisher matrix of N(V, σ²). The product reads the
    parameters in place, so don't call it once they have moved.
    """
    gradient = _flat(torch.autograd.grad(y, parameters, create_graph=True, materialize_grads=True))

    def product(v: Tensor) -> Tensor:
        if not gradient.requires_grad:  # it is constant
            return torch.zeros_like(v)
        slope = torch.dot(gradient, v)  # a number: autograd's own products of vectors import torch's compiler
        return _flat(torch.autograd.grad(slope, parameters, retain_graph=True, materialize_grads=True))

    return product


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([x.reshape(-1) for x in tensors])


def conjugate_gradient(
    product: Product, b: Tensor, *, iterations: int, tolerance: float, damping: float = 0.0
) -> Tensor:
    """Solve (A + λI) x ≈ b by at most `iterations` steps from x = 0; A symmetric, λ the damping; [P].

    It ends when ‖b − (A + λI) x‖ ≤ tolerance·‖b‖. Where A is singular and b lies in its range, x is the
    pseudo-inverse's. At each step xᵀ(A + λI) x = xᵀb. Hestenes & Stiefel 1952, https://doi.org/10.6028/jres.049.044,
    section 3.
    """
    x, r, p = torch.zeros_like(b), b.clone(), b.clone()
    rr = r @ r
    enough = tolerance**2 * rr
    for _ in range(iterations):
        if rr <= enough:  # on a GPU a sync point
            break
        ap = product(p) + damping * p
        curvature = p @ ap
        if curvature <= 0.0:  # nothing left but rounding
            break
        alpha = rr / curvature
        x += alpha * p
        r -= alpha * ap
        before, rr = rr, r @ r
        p = r + (rr / before) * p
    return x


def boundary(x: Tensor, g: Tensor, delta: float | Tensor) -> Tensor:
    """Compute the α at which the step αx, x = F⁻¹g, meets ½ Δᵀ F Δ = δ: α = √(2δ / gᵀF⁻¹g); 0-dim.

    Schulman et al. 2015, https://arxiv.org/abs/1502.05477, appendix C. Finite where g is zero.
    """
    return (2.0 * delta / torch.dot(x, g).clamp(min=torch.finfo(x.dtype).tiny)).sqrt()


@torch.no_grad()
def line_search(theta: Tensor, step: Tensor, accept: Callable[[], bool], *, shrink: float, tries: int) -> float:
    """Try steps θ ← θ + βʲ step in place, j = 0, 1, …, until `accept()` is true; return βʲ.

    When no try is accepted, θ is what it was, to the bit, and the result is 0; β is `shrink`.
    """
    old = theta.clone()
    for j in range(tries):
        fraction = shrink**j
        torch.add(old, step, alpha=fraction, out=theta)
        if accept():
            return fraction
    theta.copy_(old)
    return 0.0
