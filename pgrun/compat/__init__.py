"""The private interfaces of torch, Hydra, Ray and others, used only through here, each with a test of its own."""
