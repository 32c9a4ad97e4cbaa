"""What a service class means beyond its messages: users and providers of PS3.4's services, on both faces.

``worklist``, ``mpps``, ``commitment``, ``ups``, ``availability``, ``printing``, ``patient_information``; and
``matching``, the matching rules, for query handlers of one's own.
"""
