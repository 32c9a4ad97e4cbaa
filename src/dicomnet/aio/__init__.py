"""The asyncio face: ``associate`` and ``serve`` on an event loop. The names and parameters are the blocking face's.

One idea: what arrives is handed to the conversation at once, by the loop's own callback, and what that has to say goes
out before the callback returns. A task is waked only if what it waits for has happened, and one that need not wait
never leaves its turn: no reader task, no queue, no lock.
"""

from dicomnet.aio.association import Association, Results, associate
from dicomnet.aio.enterable import Enterable
from dicomnet.aio.server import Server, serve

__all__ = ["Association", "Enterable", "Results", "Server", "associate", "serve"]
