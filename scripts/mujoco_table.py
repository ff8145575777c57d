"""Set what the recipes learn on MuJoCo beside what others have published, from the figures of scripts/learning.py.

`python scripts/pages.py` puts the table into docs/results.md.
"""

from __future__ import annotations

import learning
from runs import shown

PUBLISHED = {  # of Tianshou, CleanRL and rl-zoo, after 1M steps
    ("ppo", "halfcheetah"): ("5784 ± 1244", "1443 ± 46", "5819"),
    ("trpo", "halfcheetah"): ("4471 ± 805", "", "1785"),
    ("npg", "halfcheetah"): ("3485 ± 717", "", ""),
    ("a2c", "halfcheetah"): ("1830 ± 1068", "", "3041"),
    ("mdpo", "halfcheetah"): ("", "", ""),
    ("ppo", "hopper"): ("2609 ± 701", "2383 ± 272", "2410"),
    ("trpo", "hopper"): ("2046 ± 1038", "", "3618"),
    ("npg", "hopper"): ("1915 ± 551", "", ""),
    ("a2c", "hopper"): ("1253 ± 458", "", "733"),
    ("mdpo", "hopper"): ("", "", ""),
    ("ppo", "walker2d"): ("3589 ± 757", "2288 ± 572", "3479"),
    ("ppo", "ant"): ("3258 ± 1079", "", "1327"),
    ("ppo", "swimmer"): ("67 ± 99", "", "282"),
    ("ppo", "humanoid"): ("787 ± 194", "716 ± 49", ""),
}


def table() -> str:
    """Write the table of docs/results.md, from the CSV."""
    found = {(line["algo"], line["env"]): line for line in learning.read() if plain(line)}
    lines = ["| 1M steps | pgrun | seeds | worst | Tianshou | CleanRL | rl-zoo |", "| --- " * 7 + "|"]
    for (algo, env), others in PUBLISHED.items():
        if (line := found.get((algo, env))) is not None:
            name = f"{algo.upper()} {shown(env)}"
            middle, low, high, worst = (f"{float(line[key]):.0f}" for key in ("iqm", "low", "high", "worst"))
            own = f"{middle} [{low}, {high}] | {learning.seeds_of(line)} | {worst}"
            lines.append(f"| {name} | {own} | {' | '.join(others)} |")
    return "\n".join(lines)


def plain(line: dict[str, str]) -> bool:
    """Tell whether a line is of a recipe as it is shipped; A2C's has another advantage on the command line."""
    return line["row"] in (f"{line['algo']}-{line['env']}", f"{line['algo']}-gae-{line['env']}")
