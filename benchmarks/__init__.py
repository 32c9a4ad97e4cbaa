"""Rates, CPU and memory of dicomnet beside other toolkits and beside bare sockets: ``python -m benchmarks``.

Every end of a conversation runs as a process of its own, on loopback. Contenders take turns (A B A B …), figures are
medians of one run, and what counts is their ratio: a figure from another machine or another day says nothing.

=====================  ===============================================================================
``corpora``            the files that are sent: synthetic, seeded, built once into a cache folder
``processes``          one end as a process: started, found ready, watched, stopped
``measure``            a round of one contender; rounds of all of them, alternating
``peers``              who can be an end: dicomnet, DCMTK, pynetdicom, bare sockets
``scenarios``          the rows of the table: who against whom, doing what, and the ratio to reach
``report``             the Markdown table and the JSON history
``raw``                programs: bare sockets, no protocol; and the requestor that speaks ``canned`` PDUs
``dicomnet_ends``      programs: SCU and SCP on dicomnet's blocking face
``pynetdicom_ends``    programs: SCU and SCP on pynetdicom
``program``            what these programs have in common
=====================  ===============================================================================
"""
