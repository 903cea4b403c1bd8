"""`make eval`: starts the real inference service and scores the bundled model through it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import grpc
from errand_common.testing.keys import TestKeys, free_port
from grpc_health.v1 import health_pb2, health_pb2_grpc

ROOT = Path(__file__).parents[1]


def wait_until_serving(target: str, process: subprocess.Popen[bytes], seconds: float = 120) -> None:
    """Raises SystemExit when the service does not come up."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and process.poll() is None:
        try:
            with grpc.insecure_channel(target) as channel:
                answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=1)
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                return
        except grpc.RpcError:
            time.sleep(0.2)
    raise SystemExit("the inference service did not come up")


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        keys, port = TestKeys(Path(folder)), free_port()
        environment = {
            "ERRAND_INFERENCE_PORT": str(port),
            "ERRAND_INFERENCE_DATA_DIR": folder,
            "ERRAND_INFERENCE_JWKS": str(keys.jwks_file),
            "ERRAND_INFERENCE_MODEL_PATH": str(ROOT / "models" / "errand-tiny"),
            "ERRAND_INFERENCE_CACHE_DIR": str(ROOT / ".cache" / "errand"),
            "ERRAND_INFERENCE_LOG_LEVEL": "warning",
        }
        serve = [sys.executable, "-m", "errand_inference", "serve"]
        process = subprocess.Popen(serve, env={**environment, **os.environ})
        try:
            wait_until_serving(f"127.0.0.1:{port}", process)
            scored = [sys.executable, "-m", "errand_inference", "evaluate", "--target", f"127.0.0.1:{port}"]
            return subprocess.run(
                [*scored, "--signing-key", str(keys.signing_key_file), *sys.argv[1:]], check=False
            ).returncode
        finally:
            process.terminate()
            process.wait(30)


if __name__ == "__main__":
    sys.exit(main())
