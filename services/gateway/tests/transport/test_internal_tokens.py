"""One token for a caller's requests of some seconds; never one caller's for another."""

from dataclasses import replace

from errand_common.testing.keys import TestKeys, principal
from errand_gateway.transport.internal_tokens import InternalTokens


async def test_a_token_is_reused_for_a_while_and_says_who_calls(keys: TestKeys) -> None:
    now = [0.0]
    tokens = InternalTokens(keys.signer, clock=lambda: now[0])
    ada = principal("acme", "key_ada")
    first = tokens.of(ada)
    assert tokens.of(replace(ada, request_id="another")) == first
    now[0] = 31.0
    later = tokens.of(ada)
    verified = await keys.verifier.verify(later)
    assert (verified.tenant_id, verified.id, verified.request_id) == ("acme", "key_ada", "")


async def test_other_roles_or_tenants_get_other_tokens(keys: TestKeys) -> None:
    tokens = InternalTokens(keys.signer)
    ada = principal("acme", "key_ada", roles=("admin",))
    for other in (replace(ada, tenant_id="bolt"), replace(ada, roles=frozenset({"viewer"})), replace(ada, id="x")):
        assert (await keys.verifier.verify(tokens.of(other))).roles == other.roles
        assert tokens.of(other) != tokens.of(ada)
