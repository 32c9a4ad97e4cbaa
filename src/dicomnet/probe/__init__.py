"""What a peer is, and why it fails: ``survey`` finds out, and its ``Report`` can be shown as text or as a web page.

One idea: to find out and to show are apart. A survey returns values; ``page`` arranges them for people, ``text`` and
``html`` write that down.
"""

from dicomnet.probe.contexts import Plan as Plan
from dicomnet.probe.pace import Store as Store
from dicomnet.probe.report import Report as Report
from dicomnet.probe.surveyor import survey as survey

__all__ = ["Plan", "Report", "Store", "survey"]
