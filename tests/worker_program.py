"""A program that serves with several workers, for tests that kill it: ``python -m tests.worker_program OPTIONS``.

OPTIONS: one JSON object. It prints one JSON object a line, and obeys the lines of its input; where that ends it ends,
too, without closing anything. A module of its own, since workers that are spawned import it anew.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from functools import partial
from typing import Any

import dicomnet
from dicomnet import transport
from dicomnet.blocking import server as blocking
from dicomnet.workers import SharedCounters, Workers
from tests.faces.wire import CT, EXPLICIT


def who(counters: SharedCounters, request: Any) -> dicomnet.Response:
    """C-ECHO: which process has answered, and whose child it is."""
    counters.add(echoes=1)
    return dicomnet.Response(0xB000, error_comment=f"{os.getpid()} {os.getppid()}")


def keep(counters: SharedCounters, request: Any) -> int:
    """C-STORE."""
    counters.add(stored=1, size=request.dataset.size)
    return 0


def fail(worker: Any) -> None:
    """Instead of a server."""
    raise RuntimeError("it cannot serve")


def say(**fields: Any) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def serve(ae: dicomnet.AE, count: int, method: str) -> Any:
    """The server; one whose processes are not started as the platform would has what ``serve`` returns, too."""
    if method == "default":
        return dicomnet.serve(ae, workers=count)
    listener = transport.listen("127.0.0.1", 0, 128)
    run_one = fail if method == "failing" else partial(blocking._run_worker, ae, (None, False))
    port = listener.getsockname()[1]
    started = Workers(
        run_one,
        listener,
        count,
        limits=ae.limits,
        drain=ae.timeouts.drain,
        **({} if method == "failing" else {"method": method}),
    )
    started.wait_ready()
    started.port = port
    return started


def main(options: dict[str, Any]) -> None:
    logging.basicConfig(level=logging.INFO, format="%(process)d %(levelname)s %(message)s")
    count = options.pop("workers", 2)
    method, servers, child = (options.pop(name, None) for name in ("method", "servers", "child"))
    counters = SharedCounters(count, "echoes", "stored", "size")
    timeouts = dicomnet.Timeouts(drain=options.pop("drain", 30.0), closing=0.3)
    ae = dicomnet.AE("SCP", contexts=[dicomnet.Verification, (CT, [EXPLICIT])], timeouts=timeouts, **options)
    ae.on_c_echo(partial(who, counters))
    ae.on_c_store(partial(keep, counters))
    try:
        running = [serve(ae, count, method or "default") for _ in range(servers or 1)]
    except OSError as error:
        say(error=str(error))
        return
    if child and not os.fork():  # what a program may do after ``serve``
        threading.Event().wait()
    say(ports=[server.port for server in running], threads=threading.active_count())
    try:
        for line in sys.stdin:
            if line == "close\n":
                closers = [threading.Thread(target=server.close) for server in running for _ in range(2)]
                for closer in closers:
                    closer.start()
                for closer in closers:
                    closer.join()
            say(closed=[server.wait(None if line == "wait\n" else 0.0) for server in running], **counters.totals())
    except KeyboardInterrupt:
        for server in running:
            server.close()
        say(interrupted=True, **counters.totals())


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
