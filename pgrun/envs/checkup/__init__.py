"""Examinations of environments: what is wrong with one, in plain words. `examine` has the entry."""
