"""Encoders with a memory, and rollouts laid out for them."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from pgrun.data.types import Obs, Transition
from pgrun.nn.encoder import Encoder


class RecurrentEncoder(Encoder):
    """An encoder, then an LSTM or a GRU, run over time and begun anew at each episode's start.

    LSTM: Hochreiter & Schmidhuber 1997, https://doi.org/10.1162/neco.1997.9.8.1735. GRU: Cho et al. 2014,
    https://arxiv.org/abs/1406.1078. The state begins with the features; an LSTM's cell follows.
    """

    def __init__(self, inner: Encoder, cell: str, size: int) -> None:
        super().__init__()
        self.inner, self.features = inner, size
        self.lstm = cell == "lstm"
        self.rnn = nn.LSTM(inner.features, size) if self.lstm else nn.GRU(inner.features, size)
        for name, parameter in self.rnn.named_parameters():
            if name.startswith("bias"):
                nn.init.zeros_(parameter)
            else:
                for gate in parameter.detach().split(size):
                    nn.init.orthogonal_(gate)
        self.state_size = size * (2 if self.lstm else 1)

    def step(self, obs: Obs, state: Tensor) -> tuple[Tensor, Tensor]:
        """Encode one observation and renew the state; see `Encoder.step`."""
        rnn, x = self.rnn, self.inner(obs)
        weights: Any = (rnn.weight_ih_l0, rnn.weight_hh_l0, rnn.bias_ih_l0, rnn.bias_hh_l0)
        if self.lstm:
            after = torch.cat(torch.lstm_cell(x, state.chunk(2, -1), *weights), -1)  # type: ignore[arg-type]
        else:
            after = torch.gru_cell(x, state, *weights)
        return after[:, : self.features], after

    def forward(self, seen: Any) -> Tensor:
        """Encode what a `Remembered` or a `History` holds; a single observation says nothing of what came before."""
        return seen.features(self)

    def along(self, batch: Transition, slot: slice) -> Tensor:
        """Encode a rollout's observations; see `Encoder.along`."""
        return self.unroll(batch, batch.extras["carry"][0, :, slot])

    def beyond(self, batch: Transition, slot: slice) -> Tensor:
        """Encode a rollout's successors; see `Encoder.beyond`."""
        return self.unroll(batch, batch.extras["carry"][0, :, slot], 1)

    def unroll(
        self, batch: Transition, state: Tensor, ahead: int | Tensor = 0, layouts: Layouts | None = None
    ) -> Tensor:
        """Encode a rollout's observations, or those that are some steps later in the same episode.

        Args:
            batch: the rollout, [T, B, ...].
            state: at its start, [B, S].
            ahead: how many steps later, 0 for none; or that of each row, [T, B]. The last of an episode's rows, and the
                rollout's, have their successors one step later.
            layouts: how this rollout is laid out, as far as other encoders have found out before; None: not kept.

        Returns:
            [T, B, F].
        """
        pieces = laid_out(Pieces, batch, layouts)
        look = isinstance(ahead, Tensor) or ahead > 0
        x = pieces.lay(self.inner(batch.obs), self.inner(batch.next_obs) if look else None)
        return pieces.take(self.run(pieces, x, state), ahead.T.flatten() if isinstance(ahead, Tensor) else ahead)

    def run(self, pieces: Pieces, x: Tensor, state: Tensor) -> Tensor:
        """Compute features [L, N, F] of pieces [L, N, *], each from zero or from the rollout's state [B, S]."""
        return self.rnn(x, self.split(pieces.begin(state)))[0]

    def split(self, state: Tensor) -> Any:
        """Split states [N, S] into what torch's layer takes, [1, N, size] or two of them."""
        if not self.lstm:
            return state.unsqueeze(0)
        h, c = state.unsqueeze(0).chunk(2, -1)
        return h.contiguous(), c.contiguous()

    @torch.no_grad()
    def after(self, batch: Transition, state: Tensor, layouts: Layouts | None = None) -> Tensor:
        """Compute the state after a rollout [T, B, ...], from that at its start [B, S]; no gradient."""
        tail = laid_out(Tail, batch, layouts)
        x = tail.lay(self.inner(batch.obs))
        final = self.rnn(x, self.split(state.masked_fill(tail.begun, 0.0)))[1]
        after = torch.cat(final, -1)[0] if self.lstm else final[0]
        return after.masked_fill(tail.ended, 0.0)

    def observe(self, obs: Obs, valid: Tensor) -> None:
        """Update the inner encoder's statistics; see `Encoder.observe`."""
        self.inner.observe(obs, valid)


class Tail:
    """The last episodes of a rollout [T, B], which alone decide the state after it."""

    def __init__(self, batch: Transition) -> None:
        ends = batch.last | ~batch.valid
        t = torch.arange(1, len(ends) + 1, device=ends.device).unsqueeze(-1)
        start = (t * ends).amax(0)  # [B] the row where each begins
        self.whole = not bool(start.any())
        self.row = (start + t - 1).clamp(max=len(ends) - 1)  # [T, B]
        self.column = torch.arange(ends.shape[1], device=ends.device)
        self.length = (len(ends) - start).clamp(min=1).cpu()
        self.begun, self.ended = (start > 0).unsqueeze(-1), (start == len(ends)).unsqueeze(-1)  # [B, 1]

    def lay(self, x: Tensor) -> Any:
        """Lay out [T, B, F], each last episode from the first row on, for torch's recurrent layers."""
        if self.whole:
            return x
        return pack_padded_sequence(x[self.row, self.column], self.length, enforce_sorted=False)


class Pieces:
    """A rollout [T, B] cut into episodes, laid side by side [L, N]: one call of a recurrent layer instead of T.

    A filler row is a piece of its own.
    """

    def __init__(self, batch: Transition) -> None:
        ended = (batch.last | ~batch.valid)[:-1]  # [T − 1, B]
        starts = torch.cat([torch.ones_like(batch.last[:1]), ended]).T.flatten()  # [B·T]
        self.shape = batch.reward.shape
        at = starts.nonzero().squeeze(-1)  # [N] where each piece starts, column after column
        self.piece = starts.cumsum(0) - 1  # [B·T] the piece that a row is in
        self.row = torch.arange(len(starts), device=at.device) - at[self.piece]  # its place there
        self.lengths = torch.diff(at, append=at.new_tensor([len(starts)]))
        self.first = self.piece[:: self.shape[0]]  # [B] the pieces that the rollout starts with
        self.end = at + self.lengths - 1  # [N] where each piece ends

    def lay(self, x: Tensor, successors: Tensor | None = None) -> Tensor:
        """Lay out [T, B, F] as [L, N, F], zeros past a piece's end.

        With `successors`, each piece is followed by its last row's successor.
        """
        flat = x.transpose(0, 1).flatten(0, 1)
        more = 0 if successors is None else 1
        laid = flat.new_zeros(int(self.lengths.max()) + more, len(self.lengths), flat.shape[-1])
        laid = laid.index_put((self.row, self.piece), flat)
        if successors is not None:
            after_pieces = successors.transpose(0, 1).flatten(0, 1)[self.end]
            laid = laid.index_put((self.lengths, torch.arange(len(self.lengths), device=flat.device)), after_pieces)
        return laid

    def take(self, laid: Tensor, ahead: int | Tensor = 0) -> Tensor:
        """Bring [L, N, F] back to [T, B, F]: each row's features, or those of the row `ahead` steps later.

        `ahead` may be a number of each row's own, [B·T], column after column.
        """
        t, b = self.shape
        return laid[self.row + ahead, self.piece].unflatten(0, (b, t)).transpose(0, 1)

    def begin(self, carry: Tensor) -> Tensor:
        """Return the state [N, S] that each piece begins with, from the rollout's [B, S]."""
        return carry.new_zeros(len(self.lengths), carry.shape[-1]).index_put((self.first,), carry)


Layouts = dict[type, Any]  # a rollout's Pieces and Tail, which are the same to every encoder
Layout = TypeVar("Layout", Pieces, Tail)


def laid_out(kind: type[Layout], batch: Transition, layouts: Layouts | None) -> Layout:
    """Return a rollout's layout of this kind: the one kept in `layouts`, or a new one, which is then kept there."""
    if layouts is None:
        return kind(batch)
    if kind not in layouts:
        layouts[kind] = kind(batch)
    return layouts[kind]
