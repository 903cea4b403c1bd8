"""What `helm test` runs: every component must be ready, and a chat must be answered. Each failure names the cure."""

import json
import os
import sys
import time
import urllib.error
import urllib.request

GATEWAY = os.environ["GATEWAY"]
KEY = os.environ["ADMIN_KEY"]
HINTS = {
    "database": "the database does not answer: see the pods' logs of wait-for-tables, and values under database",
    "inference": "the model is not loaded: see the inference pods' logs; inference.hubId, hubSecret, "
    "settings.model_path and the memory limit decide about it",
}
OTHER = (
    "is not ready: its pods' events name a Secret that is missing, their logs a wrong setting, and OOMKilled in their "
    "state is the memory limit"
)


def call(path, body=None):
    headers = {"X-API-Key": KEY, "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(GATEWAY + path, data, headers), timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"{}")
    except OSError as error:
        return 0, {"error": str(error)}


until = time.monotonic() + float(os.environ.get("WAIT_SECONDS", "120"))
while True:
    status, ready = call("/readyz")
    if status == 200:
        break
    if time.monotonic() > until:
        if status == 0:
            sys.exit(f"FAILED gateway: {GATEWAY} does not answer: {ready['error']}")
        for name, component in ready.get("components", {}).items():
            if component["state"] != "ready":
                print(f"FAILED {name}: {HINTS.get(name, OTHER)}")
        sys.exit(1)
    time.sleep(1)
print("ok     all components are ready")
status, answer = call("/api/v1/chat", {"message": "What is 15 plus 27?"})
if status != 200 or not answer.get("answer"):
    sys.exit(f"FAILED chat: status {status}: {json.dumps(answer)[:500]}")
print(f"ok     chat: {answer['answer']}")
