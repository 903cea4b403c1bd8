"""The service, its engine bound by no grammar: what the grammar costs is the service beside it.

python bench/inference/without_grammar.py serve
"""

import sys
from dataclasses import replace

import once
from errand_inference.engines.openvino import OpenVinoEngine

bound = OpenVinoEngine.generate
OpenVinoEngine.generate = lambda self, request: bound(self, replace(request, grammar=None))

if __name__ == "__main__":
    sys.exit(once.main())
