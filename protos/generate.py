"""Generates the Python stubs under protos/gen and the descriptor image that buf lints.

buf's own registry is not needed: protovalidate's wheel embeds the descriptor of
buf/validate/validate.proto, and buf reads the image that protoc writes.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import sysconfig
import tempfile
from importlib import resources
from pathlib import Path

from google.protobuf import descriptor_pb2
from grpc_tools import protoc
from protovalidate._gen.buf.validate import validate_pb

ROOT = Path(__file__).parent
# Beside this interpreter: the environment need not be activated, so PATH may not hold it.
MYPY_GRPC_PLUGIN = Path(sysconfig.get_path("scripts")) / "protoc-gen-mypy_grpc"
VALIDATE_PROTO = "buf/validate/validate.proto"


def write_validate_descriptors(target: Path) -> None:
    """Writes validate.proto and what it imports as a FileDescriptorSet."""
    files = descriptor_pb2.FileDescriptorSet()
    names = ("descriptor", "duration", "field_mask", "timestamp")
    include = str(resources.files("grpc_tools") / "_proto")
    run_protoc(
        [
            f"--proto_path={include}",
            f"--descriptor_set_out={target}",
            "--include_imports",
            *(f"google/protobuf/{name}.proto" for name in names),
        ]
    )
    files.ParseFromString(target.read_bytes())
    files.file.add().ParseFromString(validate_pb.desc().proto.to_binary())
    target.write_bytes(files.SerializeToString())


def run_protoc(arguments: list[str]) -> None:
    """Runs protoc; raises SystemExit with its status when it fails."""
    if status := protoc.main(["protoc", *arguments]):
        raise SystemExit(status)


def generate(target: Path, image: Path) -> None:
    """Writes stubs for every proto into `target` and the lintable image to `image`."""
    sources = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "errand").rglob("*.proto"))
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        validate = Path(folder) / "validate.binpb"
        write_validate_descriptors(validate)
        common = [f"--descriptor_set_in={validate}", f"--proto_path={ROOT}"]
        outputs = [f"--python_out={target}", f"--pyi_out={target}"]
        run_protoc([*common, *outputs, VALIDATE_PROTO])
        run_protoc(
            [
                *common,
                *outputs,
                f"--grpc_python_out={target}",
                f"--plugin=protoc-gen-mypy_grpc={MYPY_GRPC_PLUGIN}",
                f"--mypy_grpc_out={target}",
                f"--descriptor_set_out={image}",
                "--include_imports",
                "--include_source_info",
                *sources,
            ]
        )
    drop_empty_service_stubs(target)
    for package in {path.parent for path in target.rglob("*.py")}:
        (package / "py.typed").touch()


def drop_empty_service_stubs(target: Path) -> None:
    """protoc writes a gRPC stub for files without a service too."""
    for stub in target.rglob("*_pb2_grpc.py"):
        if "class " not in stub.read_text():
            stub.unlink()
            stub.with_suffix(".pyi").unlink(missing_ok=True)


def differences(expected: Path, actual: Path) -> list[str]:
    """Names of files that differ between two trees of stubs."""

    def contents(root: Path) -> dict[str, bytes]:
        files = (path for path in root.rglob("*") if path.suffix in {".py", ".pyi", ".typed"})
        return {str(path.relative_to(root)): path.read_bytes() for path in files}

    left, right = contents(expected), contents(actual)
    return sorted(name for name in left.keys() | right.keys() if left.get(name) != right.get(name))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail when the committed stubs differ")
    parser.add_argument("--image", type=Path, default=ROOT / "build" / "errand.binpb")
    options = parser.parse_args()
    options.image.parent.mkdir(parents=True, exist_ok=True)
    committed = ROOT / "gen"
    if not options.check:
        shutil.rmtree(committed, ignore_errors=True)
        generate(committed, options.image)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder), options.image)
        changed = differences(Path(folder), committed)
    for name in changed:
        print(f"stub out of date: protos/gen/{name} (run `make protos`)", file=sys.stderr)
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
