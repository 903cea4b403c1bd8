"""What a failed call is told as."""

import grpc
import pytest
from errand_common.errors import Internal, Unavailable
from errand_common.rpc.client import translate_errors


def _failed(details: str) -> grpc.aio.AioRpcError:
    nothing = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, nothing, nothing, details=details)


def test_an_answer_that_grpc_lost_is_no_fault_of_the_service() -> None:
    """grpc.aio says this when a call ends while a message is being written to it: asking again may help."""
    with pytest.raises(Unavailable), translate_errors("rag"):
        raise _failed("Internal error from Core")


def test_a_fault_of_the_service_is_told_as_one() -> None:
    with pytest.raises(Internal), translate_errors("rag"):
        raise _failed("The request could not be served.")
