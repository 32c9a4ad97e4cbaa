"""A folder that received instances go to: each has its place in it, and none is ever lost there.

``Inbox(folder).keep(dataset)`` stores one, from any thread and any process::

    inbox = Inbox("incoming", layout=Layout("{PatientID}/{SOPInstanceUID}.dcm"), duplicates="compare")
    ae = AE("STORE", contexts=StorageClasses, spool_folder=inbox.spool_folder)
    kept = inbox.keep(request.dataset)    # in a handler; raises OSError
    print(kept.what, kept.path)

Nothing here prints, and nothing runs in the background.
"""

from dicomnet.inbox.folder import DUPLICATES, Duplicates, Inbox, Kept, What
from dicomnet.inbox.layout import DEFAULT, Layout, Place, file_name, folder_name
from dicomnet.inbox.room import KeepFree, Room

__all__ = [
    "DEFAULT",
    "DUPLICATES",
    "Duplicates",
    "Inbox",
    "KeepFree",
    "Kept",
    "Layout",
    "Place",
    "Room",
    "What",
    "file_name",
    "folder_name",
]
