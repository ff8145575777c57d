"""Several processes that run one training loop together, and how they combine their gradients."""
