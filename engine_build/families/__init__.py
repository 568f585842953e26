"""What engines for a GPU need of each model family: its network, in each library's terms."""
