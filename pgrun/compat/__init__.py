"""Private interfaces of torch, Hydra, Ray and others: used through here alone, each with a test that notices a change.

Nothing of pgrun is imported here.
"""
