"""The data that flows round the loop: transitions, and protocols of what makes and uses them."""
