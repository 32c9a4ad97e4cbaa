"""The DICOM message service element (PS3.7), sans I/O."""
