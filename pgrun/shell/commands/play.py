"""The command `pgrun play RUN`: a run's policy in a window, or in a video."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from pgrun.config.command_line import whole_numbers
from pgrun.shell.arguments import Parser
from pgrun.shell.commands.eval import natural, positive


def main(argv: Sequence[str]) -> int:
    """Run `pgrun play RUN`; return the exit code."""
    parser = Parser(
        prog="pgrun play", description="Watch a run's policy act: the episodes that pgrun eval runs with this seed."
    )
    parser.add_argument("run", type=Path, help="the run directory")
    parser.add_argument("--video", type=Path, metavar="FILE", help="write a film (.mp4 or .gif) instead of a window")
    parser.add_argument("--episodes", type=positive, default=1, help="whole episodes, one after the other (1)")
    parser.add_argument("--pick", choices=["best", "median", "worst"], help="only this one of the episodes, by return")
    parser.add_argument("--seed", type=natural, default=None, help="the environments' seed (the run's own final one)")
    parser.add_argument("--checkpoint", default="latest", help="latest, best or a file (latest)")
    parser.add_argument("--stochastic", action="store_true", help="sample actions instead of taking the mode")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="eval.env.KEY=value, eval.max_steps=N, …")
    parser.add_argument("--trust", action="store_true", help="use the code of a run that was not made here")
    parser.add_argument("--config-dir", "-cd", type=Path, help="a folder of yours, beside which code of yours lies")
    args = parser.parse_intermixed_args(argv)
    from pgrun.after.playing import play_checkpoint  # imports torch: not for --help
    from pgrun.after.video import check_video, check_window, show, write_video
    from pgrun.run.console import say
    from pgrun.system.signals import interruptible

    if args.video is None:
        check_window()
    else:
        check_video(args.video)
    played = play_checkpoint(
        args.run,
        args.checkpoint,
        episodes=args.episodes,
        seed=args.seed,
        stochastic=args.stochastic,
        pick=args.pick,
        overrides=[whole_numbers(text) for text in args.overrides],
        trust=args.trust,
    )
    seen = write_video(args.video, played) if args.video else show(played)
    with interruptible(), closing(played), closing(seen):
        for frame in seen:
            if frame.ended:
                number = f"episode {frame.episode} of {frame.episodes}" if frame.episodes > 1 else "1 episode"
                kind = f" ({args.pick})" if args.pick else ""
                say(f"{number}{kind}: return {frame.total:.1f} in {frame.step:,} steps")
    if args.video:
        say(f"video           {args.video}")
    return 0
