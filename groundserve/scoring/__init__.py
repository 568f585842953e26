"""What every application needs to score: opening engines, the shipped checkpoint, the gate."""
