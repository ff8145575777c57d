"""The mathematics: tensors in, tensors out, time-major, torch only."""
