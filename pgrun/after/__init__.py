"""Finished runs: what is done with them, such as evaluation, reports, comparisons and exports. Nothing trains here."""
