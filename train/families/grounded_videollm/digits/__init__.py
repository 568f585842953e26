"""The recipe of a small Grounded-VideoLLM that answers about MovingDigits."""
