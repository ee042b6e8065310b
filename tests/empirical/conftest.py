"""The tests of this room share `zoo.py`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
