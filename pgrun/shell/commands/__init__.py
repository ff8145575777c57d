"""One file for each subcommand: its arguments and what it prints. The work is done by other folders."""
