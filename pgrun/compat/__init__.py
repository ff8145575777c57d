"""Private interfaces of torch, Hydra, Ray and others: used through here alone, each with a test of its own."""
