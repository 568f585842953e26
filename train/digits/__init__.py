"""MovingDigits: a small real task, videos of handwritten digits that move, with questions."""
