"""The DICOM upper layer (PS3.8), sans I/O: no socket, no clock, no thread, no logging, no pydicom."""
