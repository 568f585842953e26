"""The recipe of a small VTG-LLM that answers about MovingDigits."""
