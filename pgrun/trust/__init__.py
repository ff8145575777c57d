"""Trust in others' runs: which of their classes and files may be loaded, and which folders code is found in.

A run that was made on this machine, or names nothing but what pgrun ships, may be used as it is. Anything else asks for
`--trust`. Nothing here imports torch, and nothing calls what a config names.
"""
