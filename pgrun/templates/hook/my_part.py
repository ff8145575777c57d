"""The hook `my_part`: ends a run once the policy is sure, to start from."""

from typing import Any

from pgrun.loop.moments import RunHook, RunView


class MyPart(RunHook):
    """Ends the run once the policy's entropy stays low.

    Args:
        nats: the entropy that counts as low.
        patience: how many updates in a row.
    """

    def __init__(self, *, nats: float = 0.1, patience: int = 3) -> None:
        self.nats, self.patience = nats, patience
        self.low = 0  # updates in a row with a low entropy

    def update(self, view: RunView) -> None:
        """Look at what an update measured; `start`, `evaluation`, `checkpoint` and `end` are the other moments."""
        entropy = view.metrics.get("policy/entropy")
        if entropy is None:
            return
        self.low = self.low + 1 if entropy < self.nats else 0
        if self.low >= self.patience:
            view.stop(f"the entropy stays below {self.nats} nats")

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps, as plain values: a resumed run goes on counting."""
        return {"low": self.low}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take it back."""
        self.low = state["low"]
