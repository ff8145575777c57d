"""The command line: `pgrun` and its subcommands. Nothing else of pgrun imports from here."""
