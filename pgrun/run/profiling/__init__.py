"""Profiling: where the time of a run goes, beside what its arithmetic alone would take."""
