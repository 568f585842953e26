"""Training: the reference's four stages, its two model variants, and the task that proves them."""
