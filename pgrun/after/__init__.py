"""Finished runs: evaluation, diagnosis, reports, comparisons, exports. Nothing trains here but the doctor's probes."""
