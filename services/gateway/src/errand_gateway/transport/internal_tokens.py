"""Tokens for the services behind, one for all requests that a caller makes within some seconds."""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

from errand_common import principal as principals
from errand_common.principal import Principal
from errand_common.rpc.context import carrying_token
from errand_common.tokens import TokenSigner

_TTL_SECONDS: Final = 300.0
_REUSE_SECONDS: Final = 30.0
_MOST: Final = 4096


class InternalTokens:
    """Signs a caller's token and keeps it for a while.

    Signing costs more than anything else on the way of a short request, and the services verify a token that
    they know at no cost. The request's id is no part of the token: calls carry it beside.
    """

    def __init__(self, signer: TokenSigner, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._signer = signer
        self._clock = clock
        self._kept: OrderedDict[Principal, tuple[float, str]] = OrderedDict()

    def of(self, principal: Principal) -> str:
        """A token of the caller that lives for at least four and a half minutes."""
        caller = replace(principal, request_id="")
        kept = self._kept.get(caller)
        now = self._clock()
        if kept is not None and now - kept[0] < _REUSE_SECONDS:
            return kept[1]
        text = self._signer.sign(caller, ttl_seconds=_TTL_SECONDS)
        self._kept.pop(caller, None)
        self._kept[caller] = (now, text)
        if len(self._kept) > _MOST:
            self._kept.popitem(last=False)
        return text

    @contextmanager
    def acting_as(self, principal: Principal) -> Iterator[None]:
        """Calls made inside the block are made for this caller."""
        with principals.acting_as(principal), carrying_token(self.of(principal)):
            yield
