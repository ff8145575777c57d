"""The data that flows round the loop: transitions, and the protocols of what makes and uses them."""
