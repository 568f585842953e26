"""The recipe of the small VTimeLLM that answers about MovingDigits."""
