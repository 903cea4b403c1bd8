"""The service, its engine bound by no grammar: what the grammar costs is the service beside it.

python bench/inference/without_grammar.py serve
"""

import sys

from errand_inference.__main__ import main
from errand_inference.domain import generation
from errand_inference.domain.repair import Attempt
from errand_inference.engines import openvino

openvino.to_ebnf = lambda grammar: ""
# Without a grammar random weights may say nothing but white space: it is not asked again, only timed.
generation.attempts = lambda *_, **__: [Attempt()]

if __name__ == "__main__":
    sys.exit(main())
