"""The public face of servers: HTTP with keys, uploads, jobs and streams in front of Triton."""
