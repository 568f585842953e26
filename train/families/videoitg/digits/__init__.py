"""The recipe of the MovingDigits checkpoint, and what stands in for downloads."""
