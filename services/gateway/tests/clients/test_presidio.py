"""Personal data found by presidio itself, with and without a model."""

import asyncio
from pathlib import Path

import pytest
import spacy
from errand_common.testing.keys import TestKeys
from errand_gateway.clients.presidio import PresidioMasker
from errand_gateway.settings import GatewaySettings
from errand_gateway.testing.backend import FakeBackend
from errand_gateway.testing.gateway import running_gateway, test_settings
from pydantic import ValidationError

ENTITIES = GatewaySettings.model_fields["presidio_entities"].default


@pytest.fixture(scope="module")
def by_patterns() -> PresidioMasker:
    return PresidioMasker("", language="en", entities=ENTITIES)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of spaCy that knows two names."""
    folder = tmp_path_factory.mktemp("spacy") / "names"
    pipeline = spacy.blank("en")
    known = [{"label": "PERSON", "pattern": "Ada Lovelace"}, {"label": "GPE", "pattern": "London"}]
    pipeline.add_pipe("entity_ruler").add_patterns(known)  # type: ignore[attr-defined]
    pipeline.to_disk(folder)
    return folder


@pytest.mark.parametrize(
    ("text", "expected", "names"),
    [
        ("Mail ada@example.com from 192.0.2.7!", "Mail [EMAIL] from [IP_ADDRESS]!", {"e-mail address", "ip address"}),
        ("My phone number is (212) 555-0123.", "My phone number is [PHONE].", {"phone number"}),
        ("Card 4111 1111 1111 1111, IBAN DE89370400440532013000", "Card [CARD], IBAN [IBAN]", {"payment card"}),
        ("Call +49 (0)30 1234567", "Call [PHONE]", {"phone number"}),
        ("17% of 2,350 is 399.5 on 2026-11-21 at 10:30", "17% of 2,350 is 399.5 on 2026-11-21 at 10:30", set()),
        ("Ada Lovelace lives in London", "Ada Lovelace lives in London", set()),
    ],
)
async def test_what_has_a_pattern(by_patterns: PresidioMasker, text: str, expected: str, names: set[str]) -> None:
    safe, found = await by_patterns.masked(text)
    assert safe == expected
    assert names <= set(found)


async def test_a_model_knows_names_and_places(model: Path) -> None:
    masker = PresidioMasker(str(model), language="en", entities=ENTITIES)
    texts = await asyncio.gather(*(masker.masked(f"Ada Lovelace ({n}@example.com), London") for n in range(8)))
    assert texts == [("[PERSON] ([EMAIL]), [LOCATION]", ["person", "e-mail address", "location"])] * 8


async def test_nothing_is_asked_of_the_internet(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("requests.Session.get", lambda _, url, **__: asked.append(url))
    masker = PresidioMasker("", language="en", entities=ENTITIES)
    assert (await masker.masked("ada@example.co.uk"))[0] == "[EMAIL]"
    assert asked == []


async def test_only_what_the_operator_names() -> None:
    masker = PresidioMasker("", language="en", entities=["IP_ADDRESS"])
    assert (await masker.masked("From 192.0.2.7"))[0] == "From [IP_ADDRESS]"
    with pytest.raises(ValueError, match="presidio_entities: presidio does not know STAR_SIGN in en"):
        PresidioMasker("", language="en", entities=["STAR_SIGN"])


async def test_through_the_door(
    tmp_path: Path, backend: FakeBackend, keys: TestKeys, template: Path, model: Path
) -> None:
    chosen = {"personal_data_finder": "presidio", "presidio_model": str(model)}
    settings = test_settings(tmp_path, backend, keys, personal_data="block", **chosen)
    async with running_gateway(settings, backend, template=template) as gateway:
        answer = await gateway.http.post("/api/v1/chat", json={"message": "I am Ada Lovelace"})
        assert (answer.status_code, answer.json()["details"]["field"]) == (422, "message")
        assert "person" in answer.json()["message"]
        assert (await gateway.http.post("/api/v1/chat", json={"message": "hi"})).status_code == 200
    assert [request.message for request in backend.agent.requests] == ["hi"]


def test_a_model_that_is_not_there(tmp_path: Path, shared_backend: FakeBackend, keys: TestKeys) -> None:
    with pytest.raises(ValidationError, match="presidio_model: xx_none_sm is neither an installed model"):
        test_settings(tmp_path, shared_backend, keys, personal_data_finder="presidio", presidio_model="xx_none_sm")


def test_without_the_extra(
    tmp_path: Path, shared_backend: FakeBackend, keys: TestKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("errand_gateway.settings.find_spec", lambda name: None)
    with pytest.raises(ValidationError, match=r"pip install 'errand-gateway\[presidio\]'"):
        test_settings(tmp_path, shared_backend, keys, personal_data_finder="presidio")
    test_settings(tmp_path, shared_backend, keys)
