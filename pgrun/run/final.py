"""The evaluation of the final policy, after the loop."""

from __future__ import annotations

from collections.abc import Callable

from pgrun.data.types import VectorEnv
from pgrun.loop.evaluate import Evaluation
from pgrun.loop.hooks import Evaluate


def evaluate_finally(
    evaluation: Evaluate,
    env: VectorEnv,
    episodes: int,
    steps: int,
    record: Callable[[str, float, int], None],
    write_best: Callable[[], None],
) -> Evaluation:
    """Evaluate the final policy in environments that are closed afterwards, and record it.

    Args:
        evaluation: the evaluations during training.
        env: the environments.
        episodes: how many.
        steps: environment steps of the run.
        record: takes a point of a curve.
        write_best: writes the best checkpoint, where no evaluation was made before this one.
    """
    try:
        final = evaluation.evaluated(env, episodes)
    finally:
        env.close()
    if evaluation.latest_at != steps:  # else this step has its point already
        for name, mean in {"return": final.mean, **final.stream_means, **final.info_means}.items():
            record(f"eval/{name}", mean, steps)
    if evaluation.best is None:
        evaluation.best = final.mean
        write_best()
    return final
