"""How settings are declared, read from the code, checked and explained.

Nothing here imports torch: a wrong value is refused before anything heavy is loaded.
"""
