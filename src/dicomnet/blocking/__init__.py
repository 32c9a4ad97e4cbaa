"""The blocking face: ``associate`` and ``serve`` on sockets and threads.

One idea: the conversations of ``dimse.operations`` run here in a single ``send(None)``, because every method of this
face's ``Io`` returns only when it is done. No thread stands between a socket and whoever wants something from it: the
first one that waits reads for all (the leader), the others sleep until it has something for them or goes.
"""

from dicomnet.blocking.association import Association, Results, associate
from dicomnet.blocking.server import Server, serve

__all__ = ["Association", "Results", "Server", "associate", "serve"]
