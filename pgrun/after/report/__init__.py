"""The report on runs: its numbers, figures, tables and page. Nothing of it needs the network."""
