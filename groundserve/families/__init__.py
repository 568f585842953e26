"""The model families: what differs between one and the next."""
