"""Programs: SCU and SCP on dicomnet's asyncio face."""

from __future__ import annotations

import asyncio
from typing import Any

from benchmarks.dicomnet_ends import entity
from benchmarks.program import announce, load_arguments, report, run_verb, timed_by_tasks, wait_for_end
from dicomnet import aio


def main() -> None:
    """Run one of the programs."""
    run_verb("aio_ends", serve, echo, options=_options)


def _options(verbs: Any) -> None:
    load_arguments(verbs["echo"])
    verbs["serve"].add_argument("--associations", type=int, default=64)
    for verb in verbs.values():
        verb.add_argument("--window", type=int, default=1)


def serve(associations: int, window: int) -> None:
    """Answer C-ECHOs."""

    async def run() -> None:
        async with aio.serve(entity(associations, window), "127.0.0.1", 0) as server:
            announce(server.port)
            await asyncio.get_running_loop().run_in_executor(None, wait_for_end)

    asyncio.run(run())


def echo(port: int, seconds: float, most: int, window: int) -> None:
    """C-ECHOs on one association: one after the other, or as many at once as the window allows."""

    async def run() -> dict[str, Any]:
        peer = f"BENCH@127.0.0.1:{port}"
        async with aio.associate(peer, calling_ae="SCU", async_ops=(window, 1)) as assoc:
            if assoc.async_ops[0] != window:
                raise SystemExit(f"the window is {assoc.async_ops[0]} instead of {window}")

            async def one() -> None:
                (await assoc.c_echo()).raise_for_status()

            return await timed_by_tasks(one, window, seconds=seconds)

    report(**asyncio.run(run()))


if __name__ == "__main__":
    main()
