"""The Python interface: training, loading and acting without a command line. To come; it calls what the shell calls."""
