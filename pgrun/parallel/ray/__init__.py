"""Workers on Ray that send their gradients to a chief. Only what is here imports ray."""
