"""xbench in this process, and at the end the peak memory of it and of the largest of its children, in bytes."""

import resource
import sys

from xbench.cli import main

if __name__ == "__main__":
    code = main()
    unit = 1 if sys.platform == "darwin" else 1024
    own, children = (
        resource.getrusage(who).ru_maxrss * unit for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    print(own, children)
    sys.exit(code)
