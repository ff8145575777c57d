"""`python -m pgrun`."""

from pgrun.cli import entry

if __name__ == "__main__":
    entry()
