"""Queries and retrievals as people write them: keys as text, matches as text, the contexts that a retrieval needs.

One idea: nothing here talks to anybody. It makes identifiers for ``c_find``, ``c_get`` and ``c_move`` out of what
somebody typed, and lines out of what came back.
"""
