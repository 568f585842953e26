"""How well frames are ranked, spans found and absent things told: figures with their intervals."""
