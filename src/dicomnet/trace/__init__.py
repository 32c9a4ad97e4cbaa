"""What passes between two AEs, seen from outside: by a proxy between them, or in a capture file.

One idea: everything that is seen becomes a ``records.Record``; whoever draws, writes or counts reads records alone.
"""
