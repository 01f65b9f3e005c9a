"""The runtime's command line as install.sh installs it: see command.py."""

import os
import sys

_VENV = os.path.dirname(os.path.dirname(sys.executable))
sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.append(f"{_VENV}/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages")

from pycontainer.runtime.main import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
