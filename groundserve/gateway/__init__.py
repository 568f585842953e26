"""HTTP for users, in front of servers."""
