"""Real servers and channels on loopback, for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import grpc

from errand_common.rpc.client import create_channel
from errand_common.rpc.server import Registration, RpcServer
from errand_common.settings import ServiceSettings
from errand_common.testing.keys import TestKeys


@asynccontextmanager
async def serving(registrations: Sequence[Registration], keys: TestKeys, *, port: int = 0) -> AsyncIterator[str]:
    """A server of these services; gives its target."""
    server = RpcServer(ServiceSettings(port=port), keys.verifier, registrations)
    port = await server.start()
    await server.set_serving(True)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


@asynccontextmanager
async def rpc_pair(registrations: Sequence[Registration], keys: TestKeys) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to a server of these services; calls need `acting_as(principal(), signer=keys.signer)`."""
    async with serving(registrations, keys) as target, create_channel(target) as channel:
        yield channel
