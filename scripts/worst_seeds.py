"""Tell how far each recipe's worst seed lies below its IQM, from the figures of scripts/learning.py.

Scores make environments alike: 0 is what random actions return, 1 the best that any algorithm is known to reach.
`python scripts/pages.py` puts the table into docs/results.md.
"""

from __future__ import annotations

import learning

# the mean return of random actions (100 episodes), and the best known of any algorithm after 1M steps or fewer; MuJoCo:
# SimbaV2's and DR.Q's tables, Swimmer: rl-zoo's TRPO on v3; LunarLander and MountainCar: rl-zoo's; the others: pgrun's
KNOWN = {
    "cartpole": (24.0, 500.0),
    "cartpole200": (24.0, 200.0),
    "cartpole_pomdp": (24.0, 500.0),
    "acrobot": (-497.0, -69.0),
    "pendulum": (-1208.0, -140.0),
    "pendulum_pomdp": (-1208.0, -140.0),
    "lunar_lander": (-192.0, 278.0),
    "lunar_lander_continuous": (-213.0, 278.0),
    "mountain_car_continuous": (-33.0, 97.0),
    "halfcheetah": (-283.0, 14_775.0),
    "hopper": (17.0, 4_054.0),
    "walker2d": (2.0, 6_938.0),
    "ant": (-48.0, 8_138.0),
    "swimmer": (1.0, 366.0),
    "humanoid": (113.0, 11_239.0),
    "contextual_bandit": (0.125, 1.0),
    "sparse_reach": (0.0, 1.0),
    "lqr": (-2.64, -1.57),  # here 0 is doing nothing
}
HOLDS = 0.9  # of its IQM's score, from which a worst seed counts as near it
WHY = {  # of rows whose worst seed falls far below
    "sac-pendulum_pomdp": "sees no velocities and has no memory",
    "dqn-lstm-cartpole_pomdp": "cause not known",
    "offpolicy_pg-cartpole": "forgets while its replay holds successes alone, see below",
    "acer-cartpole": "the same, or a plateau near 105",
    "ppo-walker2d": "one begins to walk only as the rate runs out",
    "a2c-gae-halfcheetah": "two stay slow to the end, cause not known",
    "a2c-gae-hopper": "hops fast, and falls after a quarter of an episode",
    "ppo-ant": "rises slowly to the end, and falls over after two thirds of an episode",
    "npg-hopper": "one never leaves a way to hop from which it falls after a fifth of an episode",
    "trpo-hopper": "had 3,435, then found a faster way to hop from which it falls",
    "reinforce-cartpole": "while all episodes last 500 steps Ψ is noise, which moves it away; with a baseline 486",
    "dpg-lqr": "start states: the best feedback itself returns −1.71 to −1.28 on these seeds' episodes",
    "dpg_offpolicy-lqr": "start states, as of dpg-lqr",
    "ppo-state-halfcheetah": "a recipe that was made for one σ for all states",
}


def score(env: str, value: float) -> float:
    """Compute where a mean return lies between random actions, 0, and the best known, 1."""
    low, high = KNOWN[env]
    return (value - low) / (high - low)


def table() -> str:
    """Write the table of worst seeds of docs/results.md, from the CSV: the widest gaps first."""
    known = [line for line in learning.read() if line["env"] in KNOWN]
    rows = []
    for line in known:
        middle, lowest = score(line["env"], float(line["iqm"])), score(line["env"], float(line["worst"]))
        rows.append((lowest / middle if middle > 0 else 1.0, middle, lowest, line))
    lines = ["| row | seeds | score | worst seed's score | its share | |", "| --- | --- | --- | --- | --- | --- |"]
    for share, middle, lowest, line in sorted(rows, key=lambda row: row[0]):
        why = WHY.get(line["row"], "") if share < HOLDS else ""
        lines.append(
            f"| {line['row']} | {learning.seeds_of(line)} | {middle:.2f} | {lowest:.2f} | {share:.2f} | {why} |"
        )
    return "\n".join(lines)
