"""The Python interface: training, loading and acting without a command line, whose commands call it, too."""
