"""What a tenant's deletion asks the rag service."""

import pytest
from errand.rag.v1.rag_pb2_grpc import add_RagServiceServicer_to_server
from errand_common.errors import Conflict
from errand_common.rpc.client import acting_as, create_channel
from errand_common.rpc.server import Registration
from errand_common.testing.keys import TestKeys, principal
from errand_common.testing.rpc import serving
from errand_gateway.clients.rag import GrpcDocumentBackend
from errand_gateway.testing.rag import FakeRag


async def test_a_removal_that_is_not_over_holds_up_the_tenants_however_many_came_after_it(keys: TestKeys) -> None:
    rag = FakeRag()
    registration = Registration(add_RagServiceServicer_to_server, rag, "errand.rag.v1.RagService")
    async with serving([registration], keys) as target, create_channel(target) as channel:
        with acting_as(principal(roles=("owner",)), signer=keys.signer):
            documents = GrpcDocumentBackend(channel)
            rag.unproven.add("ann")
            await documents.delete_data(principal_id="ann")
            for _ in range(250):
                await documents.delete_data(principal_id="bob")
            with pytest.raises(Conflict):
                await documents.erase_tenant(principal().tenant_id)
