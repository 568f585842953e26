"""Clients of a server: one call, typed results, typed errors."""

from groundserve.client._async import AsyncClient
from groundserve.client._sync import Client

__all__ = ["AsyncClient", "Client"]
