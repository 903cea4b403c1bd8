"""The conformance suite and the whole service on a real vLLM: as a server, then in process.

    python services/inference/tests/run_vllm.py [--python .cache/vllm/bin/python] [--parts server process]

vLLM is in an environment of its own; in process, what it lacks of ours is taken from the environment of this program.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from errand_common.testing.keys import free_port
from errand_inference.testing.random_model import SHAPES, build_random_model

HERE = Path(__file__).parent
CONFORMANCE, SERVICE = (str(HERE / file) for file in ("engines/test_conformance.py", "system/test_vllm_service.py"))
OURS = sysconfig.get_path("purelib")
SERVER, PROCESS = "server", "process"
LOADING_SECONDS = 180.0
OPTIONS = (
    *("--served-model-name", "tiny", "--dtype", "float32", "--max-model-len", "1024", "--max-num-seqs", "64"),
    *("--logprobs-mode", "processed_logprobs", "--enable-prompt-tokens-details", "--generation-config", "vllm"),
    *("--structured-outputs-config", '{"backend": "xgrammar"}', "--enforce-eager"),
    # As in process, see VllmProcess.
    "--no-enable-chunked-prefill",
)
# On a processor: a small cache, and no time spent on compiling what is tested for what it says.
OWN = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_CI_ENV": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
}
# pytest in vLLM's environment: our packages behind its own, and its libraries' warnings are not ours.
IN_PROCESS = f"import site, sys; site.addsitedir({OURS!r}); import pytest; sys.exit(pytest.main(sys.argv[1:]))"


@contextmanager
def serving(python: Path, model: Path) -> Iterator[str]:
    """The server's address once it answers."""
    port = free_port()
    # What `vllm serve` runs; the build for CPUs has another name, by which its command line does not find itself.
    server = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", model]
    command = [*server, "--port", str(port), *OPTIONS]
    process = subprocess.Popen(command, env={**os.environ, **OWN})
    url = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + LOADING_SECONDS
        while not _answers(url):
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit("vLLM's server did not start")
            time.sleep(0.5)
        yield f"{url}/v1"
    finally:
        process.terminate()
        process.wait(60)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", trust_env=False).is_success
    except httpx.HTTPError:
        return False


def tested(python: str | Path, arguments: list[str], **environment: str) -> int:
    """The exit status of pytest."""
    command = [str(python), *arguments, "-q", "-p", "no:cacheprovider"]
    return subprocess.run(command, env={**os.environ, **environment}, check=False).returncode


def behind_a_server(python: Path, model: Path) -> int:
    """Engine and service before a server."""
    with serving(python, model) as url:
        given = {"ERRAND_TEST_VLLM_URL": url, "ERRAND_TEST_MODEL": str(model)}
        suites = [CONFORMANCE, "-k", "vllm-server"], [SERVICE]
        return sum(tested(sys.executable, ["-m", "pytest", *suite], **given) for suite in suites)


def in_process(python: Path, model: Path) -> int:
    """Engine and service with vLLM as a library."""
    given = {"ERRAND_TEST_PACKAGES": OURS, "ERRAND_TEST_MODEL": str(model), **OWN}
    suites = [CONFORMANCE, "-k", "vllm and not vllm-server"], [SERVICE]
    return sum(tested(python, ["-c", IN_PROCESS, *suite, "-W", "default"], **given) for suite in suites)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", type=Path, default=Path(".cache/vllm/bin/python"))
    parser.add_argument("--parts", nargs="+", choices=[SERVER, PROCESS], default=[SERVER, PROCESS])
    options = parser.parse_args()
    # Who is told to end takes the server along.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    # Not resolved: a link of a virtual environment is what says where its packages are.
    python = options.python.absolute()
    with tempfile.TemporaryDirectory() as place:
        model = build_random_model(Path(place) / "tiny", SHAPES["tiny"])
        runs = {SERVER: behind_a_server, PROCESS: in_process}
        failed = [part for part in options.parts if runs[part](python, model)]
    if failed:
        raise SystemExit(f"failed with a real vLLM: {', '.join(failed)}")


if __name__ == "__main__":
    main()
