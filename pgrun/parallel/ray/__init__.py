"""Training on Ray: workers send their gradients to a chief."""
