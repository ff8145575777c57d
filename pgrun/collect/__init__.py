"""Acting in environments: rollouts, whole episodes, recorded ones. No gradients here."""
