"""Mathematics on tensors: tensors in, tensors out, time-major, torch only."""
