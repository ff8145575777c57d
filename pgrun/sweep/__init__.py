"""Sweeps: their folders, jobs and tables, launchers that run jobs, and samplers that choose them."""
