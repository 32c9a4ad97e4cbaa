"""An association as a command uses it: opened, used, released, and every error in words with its exit code."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from dicomnet.cli.interrupt import Interrupt
from dicomnet.cli.options import Failure
from dicomnet.cli.settings import Settings

if TYPE_CHECKING:
    from dicomnet import Association
    from dicomnet.config import Peer


@contextlib.contextmanager
def associated(
    peer: Peer, calling: str, settings: Settings, interrupt: Interrupt, **options: Any
) -> Iterator[Association]:
    """An association in a ``with`` block, released at its end; ``options``: more parameters of ``associate``.

    Until it stands the first signal ends everything at once, from then on ``interrupt`` tells of it. Raises Failure for
    what the network does.
    """
    from dicomnet import DicomNetworkError, associate
    from dicomnet.cli.explain import exit_code, explain

    stands = False
    interrupt.at_once = not interrupt.is_set()
    try:
        tls, identity, timeouts = settings.client_tls(), settings.identity(), settings.timeouts()
        with associate(
            peer, calling_ae=calling, tls=tls, identity=identity, timeouts=timeouts, **options
        ) as association:
            stands, interrupt.at_once = True, False
            yield association
    except DicomNetworkError as error:
        raise Failure(explain(error, peer, associated=stands), exit_code(error, associated=stands)) from error
