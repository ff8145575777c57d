"""Steps along gradients: optimizers of one flat vector, clipping, compiled steps. No algorithms here."""
