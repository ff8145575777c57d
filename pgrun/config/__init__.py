"""Settings: declared beside the arguments of constructors, read from there, checked and explained.

Nothing here imports torch, so that a wrong value is refused before anything heavy is loaded.
"""
