"""Sweeps: their folders, jobs and tables, the launchers that run jobs, and the samplers that choose them."""
