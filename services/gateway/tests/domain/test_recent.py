"""What is looked up is looked up once, and not again for some seconds."""

import asyncio

import pytest
from errand_gateway.domain.recent import Recent


class Source:
    """A place to look things up, which answers when it is let."""

    def __init__(self) -> None:
        self.asked = 0
        self.value: str | None = "first"
        self.open = asyncio.Event()
        self.open.set()
        self.now = 100.0
        self.recent = Recent[str, str](self.load, ttl_seconds=4, max_entries=2, clock=lambda: self.now)

    async def load(self, key: str) -> str | None:
        self.asked += 1
        found = self.value
        await self.open.wait()
        if found == "broken":
            raise RuntimeError(found)
        return found

    async def settled(self) -> None:
        """Lets what goes on behind come to its end."""
        self.open.set()
        await _turns()


async def _turns() -> None:
    """Lets tasks go on until they wait for something."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_many_at_once_look_up_once() -> None:
    source = Source()
    source.open.clear()
    asking = [asyncio.create_task(source.recent.find("key")) for _ in range(20)]
    await _turns()
    source.open.set()
    assert await asyncio.gather(*asking) == ["first"] * 20
    assert source.asked == 1


async def test_one_that_gives_up_does_not_stop_the_others() -> None:
    source = Source()
    source.open.clear()
    impatient, patient = (asyncio.create_task(source.recent.find("key")) for _ in range(2))
    await _turns()
    impatient.cancel()
    await source.settled()
    assert await patient == "first"


async def test_in_the_second_half_of_its_time_it_is_read_again_while_nobody_waits() -> None:
    source = Source()
    assert await source.recent.find("key") == "first"
    source.value = "second"
    source.now += 1
    assert (await source.recent.find("key"), source.asked) == ("first", 1)
    source.now += 2
    source.open.clear()
    assert await source.recent.find("key") == "first"
    await source.settled()
    assert (await source.recent.find("key"), source.asked) == ("second", 2)


async def test_it_is_never_older_than_its_time_counted_from_before_it_was_read() -> None:
    source = Source()
    source.open.clear()
    asking = asyncio.create_task(source.recent.find("key"))
    await _turns()
    source.value, source.now = "second", source.now + 3
    await source.settled()
    assert (await asking, await source.recent.find("key")) == ("first", "first")
    source.now += 1
    assert await source.recent.find("key") == "second"


async def test_after_a_change_nobody_is_given_what_was_read_before_it() -> None:
    source = Source()
    source.open.clear()
    before = asyncio.create_task(source.recent.find("key"))
    await _turns()
    source.value = "second"
    source.recent.forget()
    after = asyncio.create_task(source.recent.find("key"))
    await source.settled()
    assert (await before, await after) == ("first", "second")
    assert await source.recent.find("key") == "second"


async def test_a_failure_is_told_to_who_waits_and_kept_from_who_does_not() -> None:
    source = Source()
    assert await source.recent.find("key") == "first"
    source.value = "broken"
    source.now += 3
    assert await source.recent.find("key") == "first"
    await source.settled()
    assert await source.recent.find("key") == "first"
    source.now += 1
    with pytest.raises(RuntimeError, match="broken"):
        await source.recent.find("key")


async def test_what_is_not_there_is_asked_for_again_and_room_is_bounded() -> None:
    source = Source()
    source.value = None
    assert [await source.recent.find("key") for _ in range(2)] == [None, None]
    source.value = "first"
    for key in ("one", "two", "three", "one"):
        await source.recent.find(key)
    assert source.asked == 6
