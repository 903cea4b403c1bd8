"""URL templates: arguments cannot change where a request goes."""

import pytest
from errand_common.errors import InvalidArgument
from errand_tools.domain.templates import build_call, check_template
from errand_tools.domain.tools import HttpBinding, ToolFailed

PARAMETERS = {
    "type": "object",
    "properties": {"id": {"type": "string"}, "q": {"type": "string"}, "n": {"type": "integer"}},
    "required": ["id"],
}


@pytest.mark.parametrize(
    ("template", "rule"),
    [
        ("ftp://a.example/", "url"),
        ("http:///path", "url"),
        ("http://a.example:99999/", "url"),
        ("http://[::1/", "url"),
        ("https://user:pass@a.example/", "credentials"),
        ("https://{id}.a.example/", "host"),
        ("https://{id}/", "host"),
        ("https://a.example:{n}/", "host"),
        ("https://a.example/#x", "characters"),
        ("https://a.example/a b", "characters"),
        ("https://a.example\\@b.example/", "characters"),
        ("https://a.example/x\r\nHost: b", "characters"),
        ("https://a.example/../x", "path"),
        ("https://a.example/%2e%2E/x", "path"),
        ("https://a.example/{none}", "argument"),
        ("https://a.example/{}", "argument"),
        ("https://a.example/{q}", "required"),
        ("https://a.example/{id", "braces"),
        ("https://a.example/id}", "braces"),
    ],
)
def test_bad_templates(template: str, rule: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        check_template(template, PARAMETERS)
    assert refused.value.metadata == {"field": "tool.http.url_template", "rule": rule}


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("42", "/items/42"),
        ("a/b", "/items/a%2Fb"),
        ("../admin", "/items/..%2Fadmin"),
        ("?admin=1", "/items/%3Fadmin%3D1"),
        ("#x", "/items/%23x"),
        ("a b&c", "/items/a%20b%26c"),
        ("ü", "/items/%C3%BC"),
        ("@evil.example", "/items/%40evil.example"),
        (":80", "/items/%3A80"),
        ("{q}", "/items/%7Bq%7D"),
        ("%2e%2e", "/items/%252e%252e"),
    ],
)
def test_arguments_stay_in_their_segment(value: str, path: str) -> None:
    binding = HttpBinding("GET", "https://a.example/items/{id}")
    check_template(binding.url_template, PARAMETERS)
    assert build_call(binding, {"id": value}).url == f"https://a.example{path}"


@pytest.mark.parametrize("value", ["..", ".", "a\r\nb", "a\x00", "x" * 3000])
def test_arguments_that_cannot_stand_in_a_url(value: str) -> None:
    with pytest.raises(ToolFailed, match=r"URL|segments"):
        build_call(HttpBinding("GET", "https://a.example/items/{id}"), {"id": value})


def test_the_rest_goes_to_query_or_body() -> None:
    get = build_call(
        HttpBinding("GET", "https://a.example/{id}?v=1"),
        {"id": "1", "q": "a&b", "n": 2, "tags": ["x", "y"], "none": None},
    )
    assert get.url == "https://a.example/1?v=1&q=a%26b&n=2&tags=x&tags=y"
    assert get.body is None
    post = build_call(HttpBinding("POST", "https://a.example/{id}"), {"id": "1", "q": "a", "n": 2})
    assert post.url == "https://a.example/1"
    assert post.body == {"q": "a", "n": 2}
    delete = build_call(HttpBinding("DELETE", "https://a.example/{id}"), {"id": "1", "n": 2})
    assert delete.url == "https://a.example/1?n=2"
