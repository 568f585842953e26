"""Clients of a server: one call, typed results, typed errors.

Triton tells a model that its client is gone where the client called that model itself, and never
inside an ensemble. So the steps of the ensemble are called here one after another, each answer
handed on to the next step: whatever ends a call of ours also ends the work for it.

`Client` and `AsyncClient` share all but how they wait. What a request goes through is written once,
as a coroutine: `AsyncClient` awaits it, and `Client` runs it with means of waiting that block, so
that it ends without ever having been suspended.
"""

from groundserve.client._async import AsyncClient
from groundserve.client._sync import Client

__all__ = ["AsyncClient", "Client"]
