"""The data that flows round the loop: transitions, and the protocols of environments and policies."""
