"""A page that runs exported models side by side in a browser: one HTML file, and beside it all that it loads.

    <out>/index.html     the page; serve its folder with: python -m http.server
    <out>/runtime/       onnxruntime for browsers and the tokenizers, from npm, see RUNTIME
    <out>/models/0/ ..   tokenizer and int8 network (float32 where there is no int8) of each model

The page asks for nothing outside of its folder, and its policy forbids it. Times that it shows are of the browser that
runs it. Departures from Python:
1. Characters beyond Unicode's first plane that BERT's tokenizer sets apart, rare Chinese, stay with their neighbours.
2. A float32 network gives the same four digits. In int8 the last bit of a float can decide to which step a value is
   rounded, so that any two runtimes differ in some texts; and onnxruntime on a CPU without VNNI lets sums saturate,
   unless its option session.x64quantprecision is 1, which a browser does not.
"""

import base64
import contextlib
import hashlib
import html
import json
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fine_tune.export import lean
from fine_tune.files import fill_folder, lock, read_json, unlock, write_text
from fine_tune.model.load import Loaded
from fine_tune.path import cache_dir
from fine_tune.tasks.npm import npm_archive, take


class Runtime(NamedTuple):
    """A package of npm's registry, and the files of it that the page loads."""

    name: str
    version: str
    sha512: str
    files: tuple[str, ...]


RUNTIME = (
    Runtime(
        "onnxruntime-web", "1.30.0",
        "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==",
        ("dist/ort.wasm.bundle.min.mjs", "dist/ort-wasm-simd-threaded.wasm"),
    ),
    Runtime(
        "@huggingface/tokenizers", "0.2.0",
        "LidMHe1FpcSYH4vcSjXooda34pC0M8m1gmDOv7SQi6Iv+ib1zX7J3sHBCC9/3FPCkn2k1b55FneVqMRxrr99pg==",
        ("dist/tokenizers.min.mjs", "LICENSE"),
    ),
)  # fmt: skip
TOKENIZERS = ("BPE", "Unigram", "WordPiece")
"""What the browser's tokenizers know."""
KINDS = ("single_label_classification", lean.MULTI, lean.REGRESSION)


def write_page(out: Path, models: Sequence[tuple[str, Path]], title: str = "Teacher and student") -> None:
    """Write a page, whole or not at all.

    Args:
        out: Its folder, which must not be there yet.
        models: Name and exported folder of each model: `config.json`, `tokenizer.json`, `tokenizer_config.json`,
            `onnx/model_int8.onnx` or `onnx/model.onnx`; `export.json` if it is to name the texts of a pair.
        title: Its heading.

    Raises:
        ValueError: A model's files do not say what the page has to know, or the models read other texts.
        OSError: Something is there already, is not there, or cannot be had from npm.
    """
    if out.exists():
        raise FileExistsError(f"{out} exists; remove it, or name another folder for the page")
    abouts = [describe(number, name, folder) for number, (name, folder) in enumerate(models)]
    texts = texts_of([folder for _, folder in models])

    def fill(building: Path) -> None:
        take_runtime(building / "runtime")
        for about, (_, folder) in zip(abouts, models, strict=True):
            (place := building / about["folder"]).mkdir(parents=True)
            for name in ("tokenizer.json", "tokenizer_config.json"):
                shutil.copyfile(folder / name, place / name)
            shutil.copyfile(network(folder), place / "model.onnx")
        write_text(building / "index.html", page_of(title, texts, abouts))

    fill_folder(out, fill)


def check_page(loaded: Loaded) -> None:
    """Refuse a model that a browser cannot read texts for, and fetch what the page runs on.

    Raises:
        ValueError: It is one, or a package is not the one that is meant.
        OSError: The registry cannot be reached.
    """
    kind = json.loads(loaded.tokenizer.backend_tokenizer.to_str())["model"].get("type")
    if kind not in TOKENIZERS:
        raise ValueError(
            f"--page: a browser knows the tokenizers {', '.join(TOKENIZERS)} only, not {kind}; leave it out"
        )
    with archives():
        pass


def describe(number: int, name: str, folder: Path) -> dict[str, Any]:
    """Read off a model's folder what the page has to know of it.

    Raises:
        ValueError: The folder does not say, or the page could not run it.
        FileNotFoundError: A file is not there.
    """
    about, side = lean.describe(folder)
    if about.kind not in KINDS:
        known = ", ".join(KINDS)
        raise ValueError(f"{folder / 'config.json'}: problem_type must be one of {known}, got {about.kind!r}")
    model = read_json(folder / "tokenizer.json").get("model")
    if not isinstance(model, dict) or model.get("type") not in TOKENIZERS:
        found = model.get("type") if isinstance(model, dict) else model
        raise ValueError(f"{folder / 'tokenizer.json'}: a browser knows {', '.join(TOKENIZERS)} only, got {found!r}")
    file = network(folder)
    size = f"{'int8' if 'int8' in file.name else 'float32'}, {file.stat().st_size / 1e6:.1f} MB"
    return {
        "name": name, "folder": f"models/{number}", "labels": about.labels, "kind": about.kind,
        "tokens": about.tokens, "side": side, "size": size,
    }  # fmt: skip


def network(folder: Path) -> Path:
    """Find a model's smallest network.

    Raises:
        FileNotFoundError: There is none.
    """
    files = [folder / "onnx" / f"{name}.onnx" for name in ("model_int8", "model")]
    if not (there := [file for file in files if file.is_file()]):
        raise FileNotFoundError(f"{files[0]} is not there, nor {files[1].name}; export the run with --onnx --int8")
    return there[0]


def texts_of(folders: Sequence[Path]) -> list[str]:
    """Name the one or two texts that all models read, after the columns of their task.

    Raises:
        ValueError: They read different ones.
    """
    named = {folder: lean.describe(folder)[0].columns or ("sentence",) for folder in folders}
    first, *others = named.values()
    if any(len(other) != len(first) for other in others):
        told = ", ".join(f"{folder}: {' and '.join(names)}" for folder, names in named.items())
        raise ValueError(f"models on one page read the same texts, one or two; here {told}")
    return list(first)


def take_runtime(folder: Path) -> None:
    """Put what the page runs on into `folder`; the archives are kept with the caches.

    Raises:
        ValueError: A package is not the one that is meant.
        OSError: The registry cannot be reached.
    """
    folder.mkdir()
    with archives() as there:
        for package, archive in there.items():
            take(archive, {name: folder / Path(name).name for name in package.files})


@contextlib.contextmanager
def archives() -> Iterator[dict[Runtime, Path]]:
    """Give the archive of each package, fetched where it is not there yet; no other process touches them meanwhile."""
    lock(store := cache_dir() / "npm", wait=True)
    try:
        store.mkdir(parents=True, exist_ok=True)
        yield {package: npm_archive(package, store) for package in RUNTIME}
    finally:
        unlock(store)


def page_of(title: str, texts: Sequence[str], abouts: Sequence[dict[str, Any]]) -> str:
    """Fill in the template; its policy allows its own script and style, WebAssembly, and files beside it."""
    template = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    inline = re.findall(r"<(?:style|script type=\"module\")>(.*?)</", template, re.DOTALL)
    style, script = map(hashed, inline)
    policy = (
        f"default-src 'self'; script-src 'self' 'wasm-unsafe-eval' {script}; style-src 'self' {style}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    fields = "\n".join(
        f'<label for="text{number}">{html.escape(name.capitalize())}</label>\n'
        f'<textarea id="text{number}" rows="3" required aria-describedby="hint"></textarea>'
        for number, name in enumerate(texts)
    )
    page = json.dumps({"models": list(abouts)}).replace("<", "\\u003c")  # no label can end the script
    values = {"policy": policy, "title": html.escape(title), "fields": fields, "page": page}
    return re.sub(r"\{\{(\w+)\}\}", lambda found: values[found[1]], template)


def hashed(text: str) -> str:
    """Give the source expression of a policy that allows this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
