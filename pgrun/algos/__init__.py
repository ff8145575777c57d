"""The algorithms: a file each, which reads like its paper."""
