"""``serve(..., workers=N)`` on event loops: each process has one of its own. The rest is in tests/test_workers.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import dicomnet
from dicomnet import aio

PROGRAM = """
import asyncio, os, sys
import dicomnet
from dicomnet import aio

ae = dicomnet.AE("SCP")

@ae.on_c_echo
async def who(request):
    return dicomnet.Response(0xB000, error_comment=f"{os.getpid()} {type(asyncio.get_running_loop()).__module__}")

async def main():
    async with aio.serve(ae, workers=2) as server:
        assert await server.wait(0.01) is False
        for _ in range(8):
            async with aio.associate(f"SCP@127.0.0.1:{server.port}") as association:
                print((await association.c_echo()).error_comment, flush=True)
    assert await server.wait()
    await server.close()

if __name__ == "__main__":
    loop_factory = None
    if sys.argv[1] == "uvloop":
        import uvloop
        loop_factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_processes_share_a_port(tmp_path: Path, loop: str) -> None:
    """The API, §2: each with the whole AE, on the kind of event loop that the program has."""
    pytest.importorskip(loop)
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    done = subprocess.run([sys.executable, path, loop], capture_output=True, text=True, check=False, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    said = [line.split() for line in done.stdout.splitlines()]
    assert len(said) == 8
    assert len({pid for pid, _ in said}) in (1, 2)
    assert {module.partition(".")[0] for _, module in said} == {loop}


def test_no_workers_are_a_mistake() -> None:
    """ValueError where the call stands."""
    with pytest.raises(ValueError, match="workers"):
        aio.serve(dicomnet.AE("SCP"), workers=0)
