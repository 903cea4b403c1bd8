"""What leaves the process inside spans, by policy."""

import pytest
from errand_common.telemetry import genai, tracer
from errand_common.telemetry.content import ContentPolicy, content_filter
from errand_common.testing.spans import RecordedSpans

CANARY = "errand_ab12cd34_CANARYCANARYCANARY"
_tracer = tracer(__name__)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("on", f"key {CANARY} of jo@example.com, 42"),
        ("redacted", "key *** of ***, 42"),
        ("off", None),
    ],
)
def test_words_leave_as_the_policy_says(spans: RecordedSpans, policy: ContentPolicy, expected: str | None) -> None:
    said = f"key {CANARY} of jo@example.com, 42"
    attributes = {genai.MLFLOW_INPUTS: said, genai.OPERATION: genai.CHAT, genai.INPUT_TOKENS: 7}
    _tracer.start_span("step", attributes=attributes).end()
    sent = content_filter(policy)(spans.ended[0])
    assert sent.attributes is not None
    assert sent.attributes.get(genai.MLFLOW_INPUTS) == expected
    assert (sent.attributes[genai.OPERATION], sent.attributes[genai.INPUT_TOKENS]) == (genai.CHAT, 7)
    assert (sent.name, sent.context, sent.end_time) == ("step", spans.ended[0].context, spans.ended[0].end_time)


@pytest.mark.parametrize(("policy", "expected"), [("on", f"no {CANARY}"), ("redacted", "no ***"), ("off", None)])
def test_the_text_of_an_error_leaves_as_the_policy_says(
    spans: RecordedSpans, policy: ContentPolicy, expected: str | None
) -> None:
    """An error may repeat what it was given."""
    with pytest.raises(ValueError, match="no"), _tracer.start_as_current_span("step"):
        raise ValueError(f"no {CANARY}")
    sent = content_filter(policy)(spans.ended[0])
    told = dict(sent.events[0].attributes or {})
    assert told["exception.type"] == "ValueError"
    assert told.get("exception.message") == expected
    assert sent.status.description == (f"ValueError: {expected}" if expected else "ValueError")
    assert ("exception.stacktrace" in told) is (policy != "off")
    assert (CANARY in str(told)) is (policy == "on")
