"""Body templates: arguments fill texts and nothing else, and every argument goes somewhere."""

import json
from typing import Any

import pytest
from errand_common.errors import InvalidArgument
from errand_tools.domain.templates import build_call, check_binding
from errand_tools.domain.tools import HttpBinding

PARAMETERS = {
    "type": "object",
    "properties": {"text": {"type": "string"}, "count": {"type": "integer"}, "tags": {"type": "array"}},
}


def binding(template: Any, method: str = "POST", url: str = "https://a.example/x", **more: Any) -> HttpBinding:
    text = template if isinstance(template, str) else json.dumps(template)
    return HttpBinding(method, url, body_template=text, **more)


@pytest.mark.parametrize(
    ("template", "arguments", "body"),
    [
        ({"a": "{text}", "b": {"c": ["{count}", 1]}}, {"text": "x", "count": 3}, {"a": "x", "b": {"c": [3, 1]}}),
        ({"a": "{tags}"}, {"tags": ["x", {"y": 1}]}, {"a": ["x", {"y": 1}]}),
        ({"a": "No. {count}: {text}!"}, {"text": "x", "count": 3}, {"a": "No. 3: x!"}),
        ({"a": "{text}", "b": ["{count}"]}, {}, {"b": []}),
        ({"a": "say {text}"}, {}, {"a": "say "}),
        (
            {"query": "query { user { id } }", "a": "{text}"},
            {"text": "x"},
            {"query": "query { user { id } }", "a": "x"},
        ),
        # What an argument holds is never read as a template, or as JSON.
        ({"a": "{text}", "b": "{count}"}, {"text": "{count}", "count": 1}, {"a": "{count}", "b": 1}),
        ({"a": "-{text}-"}, {"text": '", "admin": "{count}'}, {"a": '-", "admin": "{count}-'}),
        (["{text}"], {"text": "x"}, ["x"]),
    ],
)
def test_a_template_is_filled(template: Any, arguments: dict[str, Any], body: Any) -> None:
    assert build_call(binding(template), arguments).body == body


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        (binding("{"), "json"),
        (binding('{"a": NaN}'), "json"),
        (binding("[" * 10_000), "json"),
        (binding('"{text}"'), "type"),
        (binding({"a": ["{none}", "{text} {count} {tags}"]}), "argument"),
        (binding({"a": "{text}", "b": "{count}"}), "argument"),
        (binding({"{text}": "{text} {count} {tags}"}), "name"),
        (binding('{"a":' * 30 + "1" + "}" * 30), "depth"),
        (binding({"a": "{text} {count} {tags}"}, method="GET"), "unused"),
        (binding({"a": "{text} {count} {tags}"}, body_argument="text"), "unused"),
    ],
)
def test_a_template_that_cannot_be_right_is_refused(given: HttpBinding, rule: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        check_binding(given, PARAMETERS)
    assert refused.value.metadata == {"field": "tool.http.body_template_json", "rule": rule}


def test_arguments_of_url_and_query_need_not_be_in_the_body() -> None:
    whole = binding({"a": "{tags}"}, url="https://a.example/x?t={text}", query_arguments=("count",))
    check_binding(whole, PARAMETERS)
    call = build_call(whole, {"text": "x", "count": 3, "tags": []})
    assert (call.url, call.body) == ("https://a.example/x?t=x&count=3", {"a": []})
