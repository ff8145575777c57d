"""`pgrun doctor`: why a run doesn't learn, from its curves, config and result. Rules say what they look at and why."""
