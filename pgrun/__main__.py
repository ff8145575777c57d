"""`python -m pgrun`."""

from pgrun.shell.cli import entry

if __name__ == "__main__":
    entry()
