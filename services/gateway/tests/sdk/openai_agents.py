"""A program on OpenAI's agents package: python openai_agents.py URL KEY; prints one JSON object a run."""

import asyncio
import json
import sys

from agents import (
    Agent,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from openai import AsyncOpenAI


@function_tool
def get_weather(city: str) -> str:
    """Weather of a city."""
    return f"Sunny in {city}."


async def main(url: str, key: str) -> None:
    set_tracing_disabled(True)
    client = AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)
    for kind in (OpenAIChatCompletionsModel, OpenAIResponsesModel):
        for model, tools in (("agent:default", []), ("tiny", [get_weather])):
            agent = Agent(name="helper", model=kind(model=model, openai_client=client), tools=tools)
            whole = await Runner.run(agent, "hello")
            streamed = Runner.run_streamed(agent, "hello")
            events = [event.type async for event in streamed.stream_events()]
            answers = {"whole": whole.final_output, "streamed": streamed.final_output, "events": len(events)}
            print(json.dumps({"api": kind.__name__, "model": model, **answers}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
