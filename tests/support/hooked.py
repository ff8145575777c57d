"""Small runs with hooks, and their curves."""

from __future__ import annotations

from typing import Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

SMALL = (
    *("algo=a2c", "network.hidden=[8]", "num_envs=4", "algo.rollout=16", "total_steps=640", "log.every=64"),
    *("eval.every=128", "eval.episodes=2", "eval.max_steps=20", "eval.final_episodes=2"),
    *("checkpoint.every=128", "checkpoint.keep=100"),
)
CORRIDOR = (*SMALL, "env=gym", "env.id=corridor:HookCorridor-v0")


def curve(folder: Any, tag: str) -> list[tuple[int, float]]:
    """Read a curve of a run: steps and values."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return [(point.step, point.value) for point in events.Scalars(tag)] if tag in events.Tags()["scalars"] else []
