"""What passes between two AEs, seen from outside: by a proxy between them, or in a capture file.

One idea: everything that is seen becomes a ``records.Record``; whoever draws, writes or counts reads records alone.

``proxy.Proxy`` gives the records of connections that it forwards, ``capture.read_capture`` those of a pcap or pcapng
file; ``pcapng.PcapngWriter`` writes what a proxy forwards, ``faults.parse_rule`` reads rules for doing harm to it.
"""
