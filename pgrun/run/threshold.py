"""The return from which on an environment counts as solved, as Gymnasium's registry has it."""

from __future__ import annotations

from typing import Any


def reward_threshold(env_id: str, max_episode_steps: Any = None) -> float | None:
    """Look up an environment's reward threshold; None where none is registered.

    Args:
        env_id: the environment's id.
        max_episode_steps: the length of its episodes, where a config sets that; with another one it is another task.
    """
    import gymnasium

    spec = gymnasium.registry.get(env_id)
    if spec is None or spec.reward_threshold is None:
        return None
    if max_episode_steps not in (None, "None", spec.max_episode_steps):
        return None
    return float(spec.reward_threshold)
