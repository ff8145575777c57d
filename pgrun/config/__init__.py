"""Settings: declared beside constructors' arguments, read from there, checked and explained.

Nothing here imports torch: a wrong value is refused before anything heavy is loaded.
"""
