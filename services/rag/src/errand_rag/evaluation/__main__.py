"""python -m errand_rag.evaluation: scores a running rag service; exit status 1 below a floor."""

import argparse
import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path

from errand_common.errors import ErrandError
from errand_common.principal import Principal
from errand_common.rpc.client import create_channel
from errand_common.tokens import TokenSigner

from errand_rag.domain.models import SearchMode
from errand_rag.evaluation.labelled import LabelledSet, load
from errand_rag.evaluation.plotting import plot
from errand_rag.evaluation.scoring import Score, table
from errand_rag.evaluation.session import EvaluationFailed, evaluate
from errand_rag.testing.client import RagClient

_TENANT = "default"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("errand rag eval", description="Score search on a labelled set.")
    parser.add_argument("--target", default="127.0.0.1:50053", help="gRPC target of the rag service")
    parser.add_argument("--signing-key", type=Path, required=True, help="PEM file that the service's key set knows")
    parser.add_argument("--set", type=Path, dest="folder", help="folder with corpus/*.md and queries.tsv; default ours")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--plot", type=Path, help="picture to write too, such as scores.svg; needs errand-rag[plot]")
    parser.add_argument("--min-ndcg", type=float, default=0.0, help="fail when hybrid's nDCG@10 is below this")
    parser.add_argument("--min-recall", type=float, default=0.0, help="fail when hybrid's recall@10 is below this")
    return parser.parse_args()


async def _scores(arguments: argparse.Namespace, labelled: LabelledSet) -> dict[SearchMode, dict[str, Score]]:
    signer = TokenSigner.from_pem(arguments.signing_key.read_bytes(), issuer="errand-evaluation")
    principal = Principal(_TENANT, "evaluation", frozenset({"admin"}), frozenset({"documents"}), "evaluation")
    async with create_channel(arguments.target) as channel:
        return await evaluate(RagClient(channel, principal, signer), labelled)


def main() -> int:
    """Prints the scores; 0, 1 below a floor, 2 when it could not be measured."""
    arguments = _arguments()
    try:
        labelled = load(arguments.folder)
        scores = asyncio.run(_scores(arguments, labelled))
    except (ErrandError, EvaluationFailed, OSError, ValueError) as error:
        print(f"errand rag eval: {error}", file=sys.stderr)
        return 2
    if arguments.json:
        print(json.dumps({mode.value: {k: asdict(s) for k, s in kinds.items()} for mode, kinds in scores.items()}))
    else:
        print(f"{len(labelled.passages)} passages, {len(labelled.queries)} queries\n\n{table(scores)}")
    if arguments.plot:
        try:
            plot(scores, arguments.plot)
        except ImportError:
            print("errand rag eval: --plot needs matplotlib: pip install 'errand-rag[plot]'", file=sys.stderr)
            return 2
        except (OSError, ValueError) as error:
            print(f"errand rag eval: --plot: {error}", file=sys.stderr)
            return 2
    hybrid = scores[SearchMode.HYBRID]["all"]
    return int(hybrid.ndcg_at_10 < arguments.min_ndcg or hybrid.recall_at_10 < arguments.min_recall)


if __name__ == "__main__":
    sys.exit(main())
