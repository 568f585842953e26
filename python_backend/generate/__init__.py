"""Stage of the text head: a prompt behind a video's block -> an answer, token by token."""
