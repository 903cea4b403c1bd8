"""`python -m errand_inference serve|check-config|prepare|convert|train|evaluate`."""

from __future__ import annotations

import sys
from pathlib import Path

from errand_common.errors import ErrandError
from errand_common.main import BAD_SETTINGS_STATUS, run_service
from errand_common.settings import SettingsError, load_settings

from errand_inference.engines.launch import start_ahead
from errand_inference.engines.wire import Load
from errand_inference.model_store import converted_folder, open_source
from errand_inference.settings import InferenceSettings


def main() -> int:
    """Runs the command; returns the exit status."""
    command = sys.argv[1] if len(sys.argv) > 1 else ""
    if command in {"prepare", "convert"}:
        return _prepare(sys.argv[2:])
    if command == "train":
        from errand_inference.training.train import main as train  # noqa: PLC0415 - needs torch

        return train(sys.argv[2:])
    if command == "evaluate":
        from errand_inference.training.evaluate import main as evaluate  # noqa: PLC0415 - not for serving

        return evaluate(sys.argv[2:])
    if command == "serve":
        _start_engine_ahead()
    from errand_inference.app import serve  # noqa: PLC0415 - training needs no server

    return run_service("errand_inference", InferenceSettings, serve)


def _start_engine_ahead() -> None:
    """It loads for as long as the service does: both at once."""
    try:
        settings = load_settings(InferenceSettings)
    except SettingsError:
        return  # told by who needs them
    if settings.plan(settings.model_name).engine == "openvino":
        start_ahead(_converted_default(settings))


def _converted_default(settings: InferenceSettings) -> Load | None:
    """The default model where it is a folder that was converted before; others are found, and loaded, later."""
    own, plan = settings.of(settings.model_name), settings.plan(settings.model_name)
    if own.path is None or own.adapter is not None:
        return None
    try:
        source = open_source(own.path, settings.cache_dir)
    except (ErrandError, OSError):
        return None  # told by who needs it
    folder = converted_folder(source, plan.precision, settings.cache_dir)
    return Load(str(folder), plan.openvino_options) if folder.is_dir() else None


def _prepare(folders: list[str]) -> int:
    """`prepare`: the default model and the embeddings; `convert FOLDER…`: these models."""
    from errand_inference.app import convert, prepare  # noqa: PLC0415 - training needs no server

    try:
        settings = load_settings(InferenceSettings)
        for folder in folders:
            convert(settings, Path(folder))
        if not folders:
            prepare(settings)
    except (SettingsError, ErrandError) as error:
        sys.stderr.write(f"errand_inference: {error}\n")
        return BAD_SETTINGS_STATUS
    return 0


if __name__ == "__main__":
    sys.exit(main())
