"""The memory `my_part`: the latest rollout, learnt from several times, to start from."""

from collections.abc import Iterator
from typing import Any

from pgrun.data.types import Transition
from pgrun.memory.latest import Latest


class MyPart(Latest):
    """The latest rollout, learnt from several times.

    Args:
        times: how often each rollout is learnt from; its value stands in conf/memory/my_part.yaml.
        common: what every memory takes.
    """

    def __init__(self, *, times: int, **common: Any) -> None:
        super().__init__(**common)
        self.times = times

    def batches(self) -> Iterator[Transition]:
        """Yield the batches to learn from now."""
        for _ in range(self.times):
            yield from super().batches()
