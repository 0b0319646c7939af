"""Starts the module: `python -I -S .../casemate/hsm/__main__.py`, without any site-packages.

-I and -S keep the environment, user folders and .pth files out of the module's process; so this
file itself says where Casemate is.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    package_root = str(Path(__file__).resolve().parents[2])
    if package_root not in sys.path:
        sys.path.append(package_root)
    from casemate.hsm.firmware import main

    sys.exit(main())
