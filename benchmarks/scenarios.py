"""All tables, by name. A scenario is a function of the settings, so that a corpus is built only for one that runs."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks import messages, transfers
from benchmarks.model import Scenario, Settings

SCENARIOS: dict[str, Callable[[Settings], Scenario]] = {
    scenario.__name__: scenario
    for scenario in (
        transfers.shipped,
        transfers.receive_small,
        transfers.receive_ct,
        transfers.large,
        transfers.send_small,
        transfers.send_ct,
        transfers.send_large,
        transfers.send_defaults,
        transfers.both_ends,
        transfers.crowd_small,
        transfers.crowd_ct,
        transfers.crowd_mixed,
        transfers.crowd_large,
        messages.echo,
        messages.echo_window,
        messages.associations,
        messages.find,
        transfers.by_size,
        transfers.by_associations,
        messages.idle,
        transfers.flood,
        messages.store,
        messages.startup,
        messages.find_many,
    )
}

# What fits two minutes: each promise of the README once.
QUICK = (
    "shipped",
    "receive_small",
    "send_small",
    "send_defaults",
    "both_ends",
    "crowd_small",
    "echo",
    "echo_window",
    "associations",
    "find",
    "idle",
)
