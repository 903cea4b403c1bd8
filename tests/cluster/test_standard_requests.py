"""After all that was done to the release, it still answers as a suite on one machine does.

The end-to-end tests themselves, over the gateway; without the requests that need a server of the tests' own.
"""

from __future__ import annotations

from tests.e2e.test_bad_input import (  # noqa: F401 - collected here
    test_a_hundred_megabytes_are_refused_before_they_are_read,
    test_an_unknown_key_is_401,
    test_malformed_json_is_told,
    test_wrong_fields_are_named,
)
from tests.e2e.test_requests import (  # noqa: F401 - collected here
    handbook,
    test_a_conversation_goes_on,
    test_a_request_is_answered_with_a_tool,
    test_a_request_that_no_tool_fits_is_answered_without_one,
    test_an_answer_cites_an_uploaded_document,
    test_an_injection_in_a_document_is_data,
    test_control_tokens_in_a_message_are_text,
    test_events_are_streamed_in_order,
    test_the_knowledge_base_is_searched_when_asked,
    test_two_requests_in_one_message_are_two_calls,
)
