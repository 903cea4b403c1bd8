"""The service, each turn drawn once: random weights may say nothing but white space, which would be asked again.

python bench/inference/once.py serve
"""

import sys

from errand_inference.__main__ import main
from errand_inference.domain import generation
from errand_inference.domain.repair import Attempt

generation.attempts = lambda *_, **__: [Attempt()]

if __name__ == "__main__":
    sys.exit(main())
