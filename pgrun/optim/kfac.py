"""K-FAC: natural gradients with a Kronecker-factored Fisher matrix, as an optimizer.

The libraries with K-FAC for torch (curvlinops, kfac-pytorch, asdfghjkl) hook nn.Linear and nn.Conv2d modules and know
the likelihoods of torch's own losses. Here layers call F.linear on parameters that are views of one vector, and the
likelihood is a policy's times a critic's. So the factors are recorded where F.linear and F.conv2d are called.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from pgrun.config.ranges import Count, Decay, Falling, Positive, Scheduled
from pgrun.core import kronecker, ranks
from pgrun.errors import Diverged, UserError
from pgrun.optim.rules import Fisher, Optimizer


class LayerUse(NamedTuple):
    """One use of a layer on M samples, at L positions: a convolution has several, a linear layer one."""

    input: Tensor  # [L, M, i]
    out: Tensor  # as the layer returned it: [..., o], or a convolution's [M, o, H, W]
    convolution: bool

    def scores(self, score: Tensor | None) -> Tensor:
        """Lay out ∂ log p / ∂out as [L, M, o]; None becomes 0, as the likelihood does not depend on that output."""
        score = torch.zeros_like(self.out) if score is None else score
        return score.flatten(2).permute(2, 0, 1) if self.convolution else score.reshape(1, -1, score.shape[-1])


class LayerRecorder(TorchFunctionMode):
    """Records the input and output of every linear layer and convolution that has these parameters.

    A block is named by its parameters: "3+4" has its weight in parameter 3 and its bias in parameter 4.
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        super().__init__()
        self.index = {id(p): k for k, p in enumerate(parameters)}
        self.uses: dict[str, list[LayerUse]] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if func is F.linear:
            self._linear(out, *args, **kwargs)
        elif func is F.conv2d:
            self._convolution(out, *args, **kwargs)
        else:
            return out
        return out.clone()  # an activation may write over it

    def _linear(self, out: Tensor, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> None:
        if block := self._block(weight, bias):
            self.uses.setdefault(block, []).append(
                LayerUse(input.detach().reshape(1, -1, input.shape[-1]), out, convolution=False)
            )

    def _convolution(
        self,
        out: Tensor,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> None:
        if groups == 1 and not isinstance(padding, str) and (block := self._block(weight, bias)):
            inputs = kronecker.patches(input.detach(), (weight.shape[2], weight.shape[3]), stride, padding, dilation)
            self.uses.setdefault(block, []).append(LayerUse(inputs, out, convolution=True))

    def _block(self, weight: Tensor, bias: Tensor | None) -> str:
        indices = [self.index.get(id(p), -1) for p in (weight, bias) if p is not None]
        return "" if -1 in indices else "+".join(map(str, indices))


class KFAC(Optimizer):
    """K-FAC: θ ← θ − η F⁻¹∇L, with a block of F for each layer and η as large as a trust region allows.

    Martens & Grosse 2015, https://arxiv.org/abs/1503.05671; trust region and momentum as ACKTR has them, Wu et al.
    2017, https://arxiv.org/abs/1708.05144. F is the Fisher matrix of the model's own distribution, not of the data.
    Linear layers and convolutions have Kronecker factors, other parameters a diagonal.

    Args:
        lr: η at most.
        momentum: μ of b ← μb + (1 − μ) η F⁻¹∇L, θ ← θ − b.
        damping: λ of (F + λI)⁻¹.
        decay: of the running averages of the factors.
        max_kl: δ of ½ Δθᵀ F Δθ ≤ δ; None takes η = lr.
        factor_every: updates from one look at the factors to the next.
        inverse_every: updates from one inversion of the factors to the next.
        schedule: how the learning rate falls over the run, down to 0 unless constant.
    """

    shareable = False  # its factors come from one process's samples

    def __init__(
        self,
        params: list[Tensor],
        *,
        lr: Scheduled[Positive],
        schedule: Falling,
        momentum: Decay,
        damping: Positive,
        decay: Decay,
        max_kl: Positive | None,
        factor_every: Count,
        inverse_every: Count,
    ) -> None:
        super().__init__(params, lr=lr, schedule=schedule)
        self.momentum, self.damping, self.decay, self.max_kl = momentum, damping, decay, max_kl
        self.factor_every, self.inverse_every = factor_every, inverse_every
        self.t = self.looks = 0  # counts of updates, and of looks at the factors
        self.state = {"b": torch.zeros_like(self.theta)}  # later "A/3+4", "S/3+4" of blocks and "D/5" of others

    def bind(self, parameters: Sequence[Tensor], fisher: Fisher | None) -> None:
        """Take the parameters and the likelihood of the model's outputs; see `Optimizer.bind`."""
        if fisher is None:
            raise UserError(
                "optimizer=kfac needs the likelihood of the model's own outputs, which on-policy algorithms give and "
                "this one does not: use optimizer=adam here, or kfac with one of those, such as algo=acktr"
            )
        self.parameters, self.fisher = parameters, fisher
        ends = torch.tensor([p.numel() for p in parameters]).cumsum(0).tolist()
        self.places = [slice(end - p.numel(), end) for p, end in zip(parameters, ends, strict=True)]

    def observe(self, *args: Any) -> None:
        """Update the running averages of the factors, every `factor_every` steps; see `Optimizer.observe`."""
        if self.t % self.factor_every:
            return
        self.looks += 1
        keep = min(1.0 - 1.0 / self.looks, self.decay)  # a plain mean at first
        for key, value in self.look(*args).items():
            self.state[key] = value if self.looks == 1 else self.state[key].lerp_(value, 1.0 - keep)

    def look(self, *args: Any) -> dict[str, Tensor]:
        """Compute one batch's A and S of each block, and the diagonal D of each other parameter, over all ranks."""
        with torch.enable_grad(), LayerRecorder(self.parameters) as recorder:
            log_likelihood, valid = self.fisher(*args)
            weight = valid.flatten().to(self.theta.dtype)  # [N]
            total = (log_likelihood.flatten() * weight).sum()
        taken = {k for block in recorder.uses for k in members(block)}
        others = [k for k in range(len(self.parameters)) if k not in taken]
        outs = [use.out for uses in recorder.uses.values() for use in uses]
        scores = list(torch.autograd.grad(total, [*outs, *(self.parameters[k] for k in others)], allow_unused=True))
        factors: dict[str, Tensor] = {}
        n = weight.sum()
        for block, uses in recorder.uses.items():
            a = torch.cat([use.input for use in uses], 1).flatten(0, 1)
            g = torch.cat([use.scores(scores.pop(0)) for use in uses], 1).flatten(0, 1)
            times, remainder = divmod(a.shape[0], weight.shape[0])  # how often the layer meets each sample
            if remainder:
                raise UserError(f"optimizer=kfac: a layer that sees {a.shape[0]} rows of {weight.shape[0]} samples")
            a = kronecker.homogeneous(a) if len(members(block)) == 2 else a
            moments = kronecker.second_moment(a, weight.repeat(times)), kronecker.second_moment(g, weight.repeat(times))
            factors[f"A/{block}"], factors[f"S/{block}"] = ranks.mean(n, moments[0], moments[1] * times)
        for k, score in zip(others, scores, strict=True):
            # E[(Σ score)²] = Σ E[score²], as samples are independent and scores have mean zero
            score = torch.zeros_like(self.parameters[k]) if score is None else score.detach()
            score, n_total = ranks.total(score.flatten(), n)
            factors[f"D/{k}"] = score.square() / n_total.clamp(min=1.0)
        return factors

    @torch.no_grad()
    def step(self) -> None:
        """Precondition the gradient, bound the step, and update the parameters; see `Optimizer.step`."""
        if self.t % self.inverse_every == 0:
            self._invert()
        self.t += 1
        direction = torch.empty_like(self.theta)  # v = F⁻¹∇L
        quadratic = direction.new_zeros(())  # vᵀ F v
        for key in [*self.state]:
            kind, _, block = key.partition("/")
            if kind == "A":
                quadratic += self._solve_block(block, direction)
            elif kind == "D":
                place, d = self.places[int(block)], self.state[key]
                v = self.grad[place] / (d + self.damping) * self._share(place)
                direction[place] = v
                quadratic += (d * v.square()).sum()
        eta = direction.new_full((), max(self.rates_now))
        if self.max_kl is not None:
            eta = torch.minimum(eta, (2.0 * self.max_kl / quadratic).sqrt())  # ½ η² vᵀFv ≤ δ
        b = self.state["b"].mul_(self.momentum).add_(direction * (eta * (1.0 - self.momentum)))
        self.theta.sub_(b)

    def _solve_block(self, block: str, direction: Tensor) -> Tensor:
        """Write the block's part of F⁻¹∇L into `direction`; return its part of the quadratic form."""
        a, s = (kronecker.Eigen(self.state[f"values_{x}/{block}"], self.state[f"vectors_{x}/{block}"]) for x in "AS")
        places = [self.places[k] for k in members(block)]
        matrix = torch.cat([self.grad[place].view(s.values.shape[0], -1) for place in places], -1)  # [o, i (+ 1)]
        v, quadratic = kronecker.solve(matrix, a, s, self.damping)
        share = self._share(places[0])
        fan_in = self.parameters[members(block)[0]][0].numel()
        for place, part in zip(places, v.split([fan_in, 1][: len(places)], -1), strict=True):
            direction[place] = share * part.flatten()
        return share**2 * quadratic

    def _share(self, place: slice) -> float:
        """Return a parameter's learning rate as a share of the largest one."""
        inside = self.own is not None and self.own.start <= place.start < self.own.stop
        return (self.own_lr if inside else self.lr) / max(self.rates_now)

    def _invert(self) -> None:
        for key in [key for key in self.state if key.startswith(("A/", "S/"))]:
            try:
                values, vectors = kronecker.eigen(self.state[key])
            except torch.linalg.LinAlgError as error:
                raise Diverged("a factor of K-FAC's Fisher matrix is not finite") from error
            self.state[f"values_{key}"], self.state[f"vectors_{key}"] = values, vectors

    def state_dict(self) -> dict[str, Any]:
        """Return the factors and counts as tensors; see `Optimizer.state_dict`."""
        return {**self.state, "t": torch.tensor(self.t), "looks": torch.tensor(self.looks)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load factors and counts; see `Optimizer.load_state_dict`."""
        tensors = dict(state)
        self.t, self.looks = int(tensors.pop("t")), int(tensors.pop("looks"))
        self.state = {key: value.detach().clone().to(self.theta) for key, value in tensors.items()}


def members(block: str) -> list[int]:
    """Return the parameters of a block: [3, 4] of "3+4"."""
    return [int(k) for k in block.split("+")]
