"""Trust in others' runs: which of their classes and files may be loaded. To come; it will import `config` alone."""
