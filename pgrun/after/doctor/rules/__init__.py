"""The doctor's rules, a file for each theme; thresholds are named constants, and each rule carries its source."""

from pgrun.after.doctor.findings import Rule
from pgrun.after.doctor.rules import actions, critic, data, divergence, ends, outcome, policy, rates, rewards

RULES: tuple[Rule, ...] = (
    *divergence.RULES,
    *rewards.RULES,
    *ends.RULES,
    *data.RULES,
    *rates.RULES,
    *policy.RULES,
    *actions.RULES,
    *critic.RULES,
    *outcome.RULES,
)
