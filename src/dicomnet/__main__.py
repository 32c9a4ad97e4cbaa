"""``python -m dicomnet`` is ``dicomnet``."""

from dicomnet.cli import main

main()
