"""Rates, CPU and memory of dicomnet beside other toolkits and beside bare sockets: ``python -m benchmarks``.

Every end of a conversation runs as a process of its own, on loopback. Contenders take turns (A B A B …), figures are
medians of one run, and what counts is their ratio: a figure from another machine or another day says nothing.

=====================  ===============================================================================
``corpora``            the files that are sent, built once into a cache folder by ``synthetic``: seeded
``studies``            what C-FINDs are answered with, and what must arrive
``processes``          one end as a process: started, found ready, watched, stopped
``measure``            contenders; rounds of all of them, alternating
``rounds``             what a round is: an exchange, holding associations, starting a program
``peers``              who can be an end: dicomnet, DCMTK, pynetdicom, bare sockets
``model``              what a table is, its figures to reach, its plot
``messages``           tables of messages: C-ECHO, C-FIND, associations, idling, starting
``transfers``          tables of files: received, sent, by many at once, memory
``scenarios``          all tables by name, and those of a quick run
``report``, ``svg``    the Markdown tables, the JSON history and the plots
``publish``            puts the last run into the README and the manual
``profile``            where the time of a message and of a megabyte goes
``raw``                programs: bare sockets, no protocol
``bare_dicom``         programs: bare ends that speak ``canned`` PDUs
``flood``              program: many large objects at once
``dicomnet_ends``      programs: SCU and SCP on dicomnet's blocking face
``aio_ends``           programs: the same on its asyncio face
``pynetdicom_ends``    programs: SCU and SCP on pynetdicom
``program``            what these programs have in common
=====================  ===============================================================================
"""
