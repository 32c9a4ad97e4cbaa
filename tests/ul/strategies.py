"""Hypothesis strategies: every PDU as a value, streams of them as a peer may send them, and ways to cut a stream.

One idea: only values are drawn that have an encoding of their own, so that ``decode(encode(x)) == x`` must hold. Spaces
around an AE title mean nothing, NULs and spaces behind a UID or a name are padding: they are not drawn here; they have
tests of their own.
"""

import itertools

from hypothesis import strategies as st

from dicomnet.config import Identity
from dicomnet.ul import pdu

KNOWN_ITEMS = {0x10, 0x20, 0x21, 0x50}
KNOWN_SUB_ITEMS = {0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59}

bytes_1 = st.integers(0, 0xFF)
bytes_2 = st.integers(0, 0xFFFF)
bytes_4 = st.integers(0, 0xFFFFFFFF)

# Usual ones most of the time; else anything that the field can carry.
uids = st.integers(0, 10**30).map("1.2.840.{}".format)
latin_1 = st.characters(max_codepoint=0xFF)
texts = uids | st.text(latin_1, max_size=20).map(lambda text: text.rstrip(" \0"))
ae_titles = st.text(latin_1, max_size=16).map(lambda text: text.strip(" ").rstrip(" \0"))
octets = st.binary(max_size=40)


def unknown_items(known: set[int]) -> st.SearchStrategy[tuple[tuple[int, bytes], ...]]:
    return _tuples(st.tuples(bytes_1.filter(lambda kind: kind not in known), octets), max_size=2)


def _tuples(elements: st.SearchStrategy, *, min_size: int = 0, max_size: int = 3) -> st.SearchStrategy[tuple]:
    return st.lists(elements, min_size=min_size, max_size=max_size).map(tuple)


def _unique_ids(contexts: st.SearchStrategy) -> st.SearchStrategy[tuple]:
    return st.lists(contexts, min_size=1, max_size=4, unique_by=lambda context: context.id).map(tuple)


context_ids = st.integers(0, 127).map(lambda index: 2 * index + 1)
max_lengths = st.just(0) | st.integers(pdu.MIN_MAX_LENGTH, 0xFFFFFFFF)
roles = st.builds(pdu.RoleSelection, uids, st.booleans(), st.booleans())
extended = st.builds(pdu.ExtendedNegotiation, texts, octets)
common_extended = st.builds(pdu.CommonExtendedNegotiation, texts, texts, _tuples(texts), bytes_1)
identities = st.builds(Identity, bytes_1, octets, octets, st.booleans())
user_informations = st.builds(
    pdu.UserInformation,
    max_length=st.none() | max_lengths,
    implementation_class_uid=st.none() | texts,
    implementation_version_name=st.none() | texts,
    async_ops=st.none() | st.tuples(bytes_2, bytes_2),
    roles=_tuples(roles),
    extended=_tuples(extended),
    common_extended=_tuples(common_extended),
    identity=st.none() | identities,
    identity_response=st.none() | octets,
    unknown=unknown_items(KNOWN_SUB_ITEMS),
)
proposed_contexts = st.builds(pdu.ProposedContext, context_ids, texts, _tuples(texts, min_size=1))
answered_contexts = st.builds(pdu.AnsweredContext, bytes_1, st.integers(0, 4), texts)
associate_rqs = st.builds(
    pdu.AssociateRq,
    called_ae=ae_titles,
    calling_ae=ae_titles,
    contexts=_unique_ids(proposed_contexts),
    user=user_informations,
    application_context=st.just(pdu.APPLICATION_CONTEXT) | texts,
    protocol_version=bytes_2,
    unknown=unknown_items(KNOWN_ITEMS - {0x21}),  # an item that belongs to the other PDU is one of unknown type here
)
associate_acs = st.builds(
    pdu.AssociateAc,
    called_ae=ae_titles,
    calling_ae=ae_titles,
    contexts=_unique_ids(answered_contexts),
    user=user_informations,
    application_context=st.just(pdu.APPLICATION_CONTEXT) | texts,
    protocol_version=bytes_2,
    unknown=unknown_items(KNOWN_ITEMS - {0x20}),
)
associate_rjs = st.builds(pdu.AssociateRj, bytes_1, bytes_1, bytes_1)
pdvs = st.builds(pdu.Pdv, bytes_1, st.booleans(), st.booleans(), st.binary(max_size=80))
p_data_tfs = st.builds(pdu.PDataTf, _tuples(pdvs, min_size=1, max_size=4))
releases = st.just(pdu.ReleaseRq()) | st.just(pdu.ReleaseRp())
aborts = st.builds(pdu.Abort, bytes_1, bytes_1)

pdus = associate_rqs | associate_acs | associate_rjs | p_data_tfs | releases | aborts


@st.composite
def chunkings(draw: st.DrawFn, stream: bytes) -> list[bytes]:
    """``stream`` in pieces, as a transport may deliver it."""
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(stream) - 1)), max_size=40)))
    edges = [0, *(cut for cut in cuts if cut < len(stream)), len(stream)]
    return [stream[start:end] for start, end in itertools.pairwise(edges)]


@st.composite
def damaged(draw: st.DrawFn, stream: bytes) -> bytes:
    """``stream`` with some bytes changed, missing or added."""
    broken = bytearray(stream)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(broken)))
        broken[at : at + draw(st.integers(0, 4))] = draw(st.binary(max_size=4))
    return bytes(broken)


# What a peer may send: PDUs in any order, some of them damaged, or nothing of the kind.
streams = st.lists(pdus, max_size=6).map(lambda values: b"".join(map(pdu.encode, values))).flatmap(damaged) | st.binary(
    max_size=300
)
