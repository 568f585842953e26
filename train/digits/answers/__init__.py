"""What the small checkpoints that answer in text about MovingDigits are trained with."""
