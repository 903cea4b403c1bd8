"""kubectl and helm against the cluster that KUBECONFIG names."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "errand"
VALUES = Path(__file__).parent / "values.yaml"
IMAGES = {
    **{name: f"services/{name}/Dockerfile" for name in ("gateway", "agent", "inference", "rag", "tools", "cli")},
    **{name: f"charts/images/{name}/Dockerfile" for name in ("postgres", "redis", "chroma", "mlflow")},
}


# Kills every process of the containers, and prints which.
KILLER = """
import os, pathlib, sys
for folder in pathlib.Path("/proc").glob("[0-9]*"):
    try:
        if any(container in (folder / "cgroup").read_text() for container in sys.argv[1:]):
            os.kill(int(folder.name), 9)
            print(folder.name)
    except (FileNotFoundError, ProcessLookupError):
        pass
"""


def _restarts(pod: dict[str, Any]) -> int:
    return sum(container["restartCount"] for container in pod["status"].get("containerStatuses", []))


def run(*command: str, text: str | None = None, seconds: float = 300, check: bool = True) -> str:
    """A command's output; fails with what it said."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=seconds, check=False)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(command)[:200]}: {done.stderr.strip()[-2000:]}")
    return done.stdout


@dataclass
class Log:
    """What happened when, for the operator's page."""

    path: Path
    began: float = field(default_factory=time.monotonic)

    def say(self, text: str) -> None:
        """Adds a line with the seconds since the beginning."""
        line = f"{time.monotonic() - self.began:7.1f} s  {text}"
        with self.path.open("a") as file:
            file.write(line + "\n")


@dataclass
class Release:
    """One release of the chart in a namespace of its own."""

    namespace: str
    log: Log
    profile: str = ""
    name: str = "errand"

    def kubectl(self, *arguments: str, **options: Any) -> str:
        """kubectl in the release's namespace."""
        return run("kubectl", "--namespace", self.namespace, *arguments, **options)

    def get(self, *arguments: str) -> Any:
        """What kubectl gets, parsed."""
        return json.loads(self.kubectl("get", *arguments, "--output", "json"))

    def helm(self, *arguments: str, seconds: float = 600, check: bool = True) -> str:
        """The helm of the PATH: clusters that need an adapted one put it there."""
        helm = shutil.which("helm") or "helm"
        return run(helm, "--namespace", self.namespace, *arguments, seconds=seconds, check=check)

    def install(self, *more: str, wait: bool = True) -> float:
        """Installs or upgrades and waits until all is ready; the seconds it took."""
        begin = time.monotonic()
        profile = ["--values", str(CHART / "ci" / f"{self.profile}-values.yaml")] if self.profile else []
        waiting = ["--wait", "--timeout", "8m"] if wait else []
        command = ["upgrade", "--install", self.name, str(CHART), "--create-namespace"]
        self.helm(*command, *profile, "--values", str(VALUES), *waiting, *more)
        return time.monotonic() - begin

    def pods(self, component: str) -> list[Any]:
        """The pods of a component that are not being deleted."""
        found = self.get("pods", "--selector", f"app.kubernetes.io/component={component}")["items"]
        return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]

    def ready(self, component: str) -> int:
        """How many of its pods take calls."""
        return sum(
            any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))
            for pod in self.pods(component)
        )

    def wait_ready(self, component: str, count: int, seconds: float = 240) -> float:
        """Waits for `count` ready pods; the seconds it took."""
        begin = time.monotonic()
        while self.ready(component) < count:
            if time.monotonic() - begin > seconds:
                raise AssertionError(f"{component}: {self.ready(component)} of {count} ready after {seconds} s")
            time.sleep(0.5)
        return time.monotonic() - begin

    def kill(self, *components: str, every: bool = False) -> None:
        """SIGKILL to one pod of each component, or to every one, all at once, by a pod that sees the node's processes.

        `kubectl delete` would take the pod out of its Service and ask it to end; a crash does neither.
        """
        victims = [pod for component in components for pod in self.pods(component)[: None if every else 1]]
        before = [_restarts(pod) for pod in victims]
        ids = [pod["status"]["containerStatuses"][0]["containerID"].rpartition("/")[2] for pod in victims]
        node = {"hostPID": True, "nodeName": victims[0]["spec"]["nodeName"], "securityContext": {"runAsUser": 0}}
        self.start_pod("killer", KILLER, *ids, spec=node)
        said = self.pod_output("killer")
        assert len(said.split()) >= len(ids), f"killed only {said}"
        for pod, count in zip(victims, before, strict=True):
            until = time.monotonic() + 120
            while _restarts(self.get("pod", pod["metadata"]["name"])) <= count:
                assert time.monotonic() < until, f"{pod['metadata']['name']} is not started again"
                time.sleep(0.3)

    def calls(self, pod: str) -> float:
        """gRPC calls that the pod has served, beside those that ask for its health."""
        read = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:9090/metrics').read().decode())"
        lines = self.kubectl("exec", pod, "--", "python", "-c", read).splitlines()
        own = (line for line in lines if line.startswith("rpc_server_requests_total{") and "grpc.health" not in line)
        return sum(float(line.split()[-1]) for line in own)

    def start_pod(
        self,
        name: str,
        script: str,
        *arguments: str,
        labels: dict[str, str] | None = None,
        spec: dict[str, Any] | None = None,
    ) -> None:
        """Runs Python in a pod of the gateway's image, beside the release but not of it."""
        image = self.pods("gateway")[0]["spec"]["containers"][0]["image"]
        key = {"secretKeyRef": {"name": "errand-keys", "key": "admin-key"}}
        container = {
            "name": "main",
            "image": image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["python", "-c", script, *arguments],
            "env": [{"name": "ADMIN_KEY", "valueFrom": key}],
        }
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": labels or {"app": name}},
            "spec": {"restartPolicy": "Never", "enableServiceLinks": False, "containers": [container]} | (spec or {}),
        }
        self.kubectl("delete", "pod", name, "--ignore-not-found", "--grace-period=1")
        self.kubectl("apply", "--filename", "-", text=json.dumps(pod))

    def pod_output(self, name: str, seconds: float = 300) -> str:
        """What the pod printed, once it has ended."""
        until = time.monotonic() + seconds
        while True:
            phase = self.get("pod", name)["status"].get("phase")
            if phase in ("Succeeded", "Failed"):
                return self.kubectl("logs", name)
            assert time.monotonic() < until, f"pod {name} is {phase} after {seconds} s"
            time.sleep(0.5)

    def start_load(self, rate: float, seconds: float, chat_share: float = 0.05) -> None:
        """Begins to send requests; waits until the first are on their way."""
        script = (Path(__file__).parent / "load.py").read_text()
        self.start_pod("load", script, "http://errand-gateway", str(rate), str(seconds), str(chat_share))
        until = time.monotonic() + 60
        while self.get("pod", "load")["status"].get("phase") != "Running":
            assert time.monotonic() < until, "the load pod does not start"
            time.sleep(0.3)
        time.sleep(3)

    def load_result(self, seconds: float = 300) -> dict[str, Any]:
        """The summary of the load."""
        printed = self.pod_output("load", seconds)
        result: dict[str, Any] = json.loads(printed.strip().splitlines()[-1])
        return result

    @contextmanager
    def forwarded(self, service: str, port: int) -> Iterator[str]:
        """A Service's port on this machine, as its URL."""
        command = ["kubectl", "--namespace", self.namespace, "port-forward", f"service/{service}", f":{port}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as forward:
            try:
                assert forward.stdout is not None
                # Forwarding from 127.0.0.1:40123 -> 8080
                line = forward.stdout.readline()
                assert line.startswith("Forwarding from 127.0.0.1:"), line
                yield f"http://{line.split()[2]}"
            finally:
                forward.terminate()

    def admin_key(self) -> str:
        """The administrator's API key."""
        return base64.b64decode(self.get("secret", "errand-keys")["data"]["admin-key"]).decode()

    def remove(self) -> None:
        """Takes the release and its namespace away."""
        self.helm("uninstall", self.name, "--wait", check=False)
        run("kubectl", "delete", "namespace", self.namespace, "--ignore-not-found", seconds=180, check=False)
