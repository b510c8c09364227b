"""FastAPI, for uvicorn; it answers with the sum of the squares below n, and names its event loop."""

import asyncio

from fastapi import FastAPI

from state import State

app = FastAPI()
state = State()


@app.get("/")
async def index(n: int = 10):
    await asyncio.sleep(0)
    return {**state.answer(sum(i * i for i in range(n))), "loop": type(asyncio.get_running_loop()).__module__}


@app.on_event("shutdown")
def ended():
    print("ended in order", flush=True)
