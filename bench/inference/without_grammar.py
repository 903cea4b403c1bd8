"""The service, its engine bound by no grammar: what the grammar costs is the service beside it.

python bench/inference/without_grammar.py serve
"""

import sys

import once
from errand_inference.engines import openvino

openvino.to_ebnf = lambda grammar: ""

if __name__ == "__main__":
    sys.exit(once.main())
