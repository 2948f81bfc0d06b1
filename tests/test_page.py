"""Tests of the page that runs exported models in a browser: its files, and in a headless Chromium what it does.

The tests with a browser need Debian's `chromium`, and the archives that `npm pack` makes of the packages in RUNTIME, in
`data/cache/npm` or in the folder `$NPM_PACKAGES`.
"""

import base64
import hashlib
import io
import json
import os
import re
import shutil
import tarfile
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from browser import PROGRAM, Browser, browser, served
from conftest import sentence
from tokenizers import Tokenizer

from fine_tune.export import page
from fine_tune.export.page import RUNTIME, write_page
from fine_tune.path import PROJECT

STORE = Path(os.environ.get("NPM_PACKAGES") or PROJECT / "data" / "cache" / "npm")
ARCHIVES = [STORE / f"{one.name.removeprefix('@').replace('/', '-')}-{one.version}.tgz" for one in RUNTIME]
LENGTH = 40
"""Tokens that the models read at most."""


def folder_of(folder: Path, network: bytes = b"", **changes: object) -> Path:
    """Write what the page reads of an exported model; changes are of `config.json`."""
    (folder / "onnx").mkdir(parents=True)
    config = {"id2label": {"0": "negative", "1": "positive"}, "max_position_embeddings": 64} | changes
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"type": "WordPiece"}}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": LENGTH}))
    (folder / "onnx" / "model_int8.onnx").write_bytes(network)
    return folder


def toy(one: page.Runtime) -> tuple[bytes, page.Runtime]:
    """An archive with the names of a package's files, and how it is checked."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as packed:
        for name in one.files:
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(name)
            packed.addfile(member, io.BytesIO(name.encode()))
    sha512 = base64.b64encode(hashlib.sha512(buffer.getvalue()).digest()).decode()
    return buffer.getvalue(), one._replace(sha512=sha512)


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Toy packages in the cache of this test's data folder; no npm, no registry."""
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "http://127.0.0.1:9/")
    monkeypatch.setattr(shutil, "which", lambda _: None)
    (store := tmp_path / "cache" / "npm").mkdir(parents=True)
    made = [toy(one) for one in RUNTIME]
    for (content, _), archive in zip(made, ARCHIVES, strict=True):
        (store / archive.name).write_bytes(content)
    monkeypatch.setattr(page, "RUNTIME", tuple(one for _, one in made))
    return store


def test_a_page_has_these_files_and_nothing_else(toys, tmp_path):
    teacher, student = folder_of(tmp_path / "teacher", b"int8"), folder_of(tmp_path / "LAD")
    (student / "onnx" / "model_int8.onnx").rename(student / "onnx" / "model.onnx")
    write_page(tmp_path / "page", [("teacher", teacher), ("LAD", student)])
    there = {str(file.relative_to(tmp_path / "page")) for file in (tmp_path / "page").rglob("*") if file.is_file()}
    runtime = {f"runtime/{Path(name).name}" for one in RUNTIME for name in one.files}
    model = {"tokenizer.json", "tokenizer_config.json", "model.onnx"}
    assert there == {"index.html"} | runtime | {f"models/{number}/{name}" for number in (0, 1) for name in model}
    assert (tmp_path / "page" / "models" / "0" / "model.onnx").read_bytes() == b"int8"
    told = [about["size"] for about in facts(tmp_path / "page")]
    assert told == ["int8, 0.0 MB", "float32, 0.0 MB"]


def facts(folder: Path) -> list[dict]:
    """Read what a page knows of its models."""
    text = (folder / "index.html").read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json" id="page">(.*?)</script>', text)[1])["models"]


class Outline(HTMLParser):
    """The start tags of a page, with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))


def test_the_policy_allows_the_pages_own_script_and_style_and_nothing_from_elsewhere(toys, tmp_path):
    write_page(tmp_path / "page", [("a", folder_of(tmp_path / "a"))])
    text = (tmp_path / "page" / "index.html").read_text(encoding="utf-8")
    tags = Outline(text).tags
    policy = next(named["content"] for tag, named in tags if named.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    inline = [re.search(rf"<{tag}>(.*?)</", text, re.DOTALL)[1] for tag in ('script type="module"', "style")]
    script, style = (f"'sha256-{base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()}'" for part in inline)
    assert rules == {
        "default-src": "'self'", "script-src": f"'self' 'wasm-unsafe-eval' {script}", "style-src": f"'self' {style}",
        "img-src": "data:", "base-uri": "'none'", "form-action": "'none'",
    }  # fmt: skip
    assert {found for found in re.findall(r"https?://[^\s<\"'.,]+", text)} == {"http://localhost:8000"}
    assert not [named for _, named in tags if {"style", "onclick", "src"} & named.keys()] and "{{" not in text


def test_every_field_has_a_label_and_names_stay_text(toys, tmp_path):
    """A label or a name with markup in it neither ends the script nor becomes an element."""
    odd = "</script><b>&amp;"
    folder = folder_of(tmp_path / "a", id2label={"0": odd, "1": "x"})
    (folder / "export.json").write_text(json.dumps({"text": ["#1 String", odd]}))
    write_page(tmp_path / "page", [(odd, folder)], title=odd)
    tags = Outline((tmp_path / "page" / "index.html").read_text(encoding="utf-8")).tags
    assert [tag for tag, _ in tags].count("script") == 2 and "b" not in [tag for tag, _ in tags]
    labels = [named["for"] for tag, named in tags if tag == "label"]
    boxes = [named for tag, named in tags if tag == "textarea"]
    assert labels == [box["id"] for box in boxes] == ["text0", "text1"]
    assert all("required" in box and box["aria-describedby"] == "hint" for box in boxes)
    assert (facts(tmp_path / "page")[0]["name"], facts(tmp_path / "page")[0]["labels"][0]) == (odd, odd)


@pytest.mark.parametrize(
    ("config", "words", "want"),
    [
        ({}, {}, ("single_label_classification", LENGTH, "right")),
        ({"id2label": {"0": "score"}}, {}, ("regression", LENGTH, "right")),
        ({"problem_type": "multi_label_classification"}, {}, ("multi_label_classification", LENGTH, "right")),
        ({"max_position_embeddings": 30}, {}, ("single_label_classification", 30, "right")),
        ({"max_position_embeddings": 512}, {"model_max_length": 1e30}, ("single_label_classification", 512, "right")),
        ({}, {"truncation_side": "left"}, ("single_label_classification", LENGTH, "left")),
    ],
)  # fmt: skip
def test_kind_length_and_side_are_read_off_the_folder(toys, tmp_path, config, words, want):
    folder = folder_of(tmp_path / "a", **config)
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": LENGTH} | words))
    write_page(tmp_path / "page", [("a", folder)])
    about = facts(tmp_path / "page")[0]
    assert (about["kind"], about["tokens"], about["side"]) == want


def no_network(folder: Path) -> None:
    (folder / "onnx" / "model_int8.onnx").unlink()


def words_only(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"model": {"type": "WordLevel"}}')


def no_length(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text("{}")
    (folder / "config.json").write_text("{}")


def other_texts(folder: Path) -> None:
    (folder / "export.json").write_text('{"text": ["question", "sentence"]}')


@pytest.mark.parametrize(
    ("spoil", "want"),
    [
        (no_network, "model_int8.onnx is not there, nor model.onnx; export the run with --onnx --int8"),
        (words_only, "a browser knows BPE, Unigram, WordPiece only, got 'WordLevel'"),
        (no_length, "model_max_length must say how many tokens fit"),
        (other_texts, "models on one page read the same texts, one or two; here .*a: sentence, .*b: question and sen"),
        (lambda folder: (folder / "config.json").write_text('{"id2label": ["a"]}'), "id2label must name the classes"),
        (lambda folder: (folder / "config.json").write_text('{"problem_type": "x"}'), "problem_type must be one of"),
        (lambda folder: (folder / "tokenizer.json").write_text("[1]"), "expected one JSON object"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer.json"),
    ],
)
def test_a_folder_that_the_page_could_not_run_is_refused_and_nothing_is_left(toys, tmp_path, spoil, want):
    one, other = folder_of(tmp_path / "a"), folder_of(tmp_path / "b")
    spoil(other)
    with pytest.raises((ValueError, OSError), match=want):
        write_page(tmp_path / "page", [("a", one), ("b", other)])
    assert not [*tmp_path.glob("page*"), *tmp_path.glob(".page*")]


def test_a_page_that_is_there_is_left_alone(toys, tmp_path):
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "mine").write_text("x")
    with pytest.raises(FileExistsError, match="page exists; remove it, or name another folder"):
        write_page(tmp_path / "page", [("a", folder_of(tmp_path / "a"))])
    assert [file.name for file in (tmp_path / "page").iterdir()] == ["mine"]


@pytest.mark.slow
def test_an_export_has_its_page_beside_its_teacher(toys, data, run, refused, teacher):
    pytest.importorskip("onnxscript", reason="needs: pip install -r requirements-export.txt")
    short = ("--total_step", 1, "--batch_size", 4, "--num_hidden_layers", 1, "--device_id", -1, "--no_preflight")
    run("run_kd_distil", "--experiment", "s", "--teacher_exp", "teacher", "--task", "sst2", *short)
    assert "--onnx" in refused("export_model", "--experiment", "s", "--task", "sst2", "--page")
    told = refused("export_model", "--experiment", "s", "--task", "sst2", "--onnx", "--page")
    assert "python export_model.py --experiment teacher --task sst2 --onnx" in told
    assert not (data.run("s") / "export").exists()
    run("export_model", "--experiment", "teacher", "--task", "sst2", "--onnx")
    run("export_model", "--experiment", "s", "--task", "sst2", "--onnx", "--page")
    assert [about["name"] for about in facts(data.run("s") / "export" / "page")] == ["teacher", "s"]


def test_other_packages_are_refused_and_a_missing_registry_is_told(toys, tmp_path):
    models = [("a", folder_of(tmp_path / "a"))]
    archive = toys / ARCHIVES[1].name
    archive.write_bytes(b"another")
    with pytest.raises(ValueError, match=rf"{archive.name}: its sha512 is .*, not .*; it was removed, try again"):
        write_page(tmp_path / "page", models)
    with pytest.raises(
        OSError, match=r"http://127.0.0.1:9/@huggingface/tokenizers/-/tokenizers-0.2.0.tgz: .*; set NPM"
    ):
        write_page(tmp_path / "page", models)
    assert not [*tmp_path.glob("page*"), *tmp_path.glob(".page*")]


# With a browser.

needs_browser = pytest.mark.skipif(PROGRAM is None, reason="no chromium: apt-get install chromium")
needs_packages = pytest.mark.skipif(
    not all(file.is_file() for file in ARCHIVES),
    reason=f"no archives in {STORE}: npm pack {' '.join(f'{one.name}@{one.version}' for one in RUNTIME)}",
)
SENTENCES = [
    *(sentence(seed, most=20) for seed in range(40)),
    "Good, GREAT and lovely!", "caf\u00e9 \u00c5ngstr\u00f6m na\u00efve", "\u6f22\u5b57 good \u6f22\u5b57",
    "\U0001f600 good \U0001f44d\U0001f3fd", "good\u00a0film \u2014 \u201cfine\u201d \u2026", "a\u0301 e\u0301 \ufb01ne",
    "</script><b>good</b> & \"bad\" 'it'", "[MASK] good [SEP] bad", "it is\tgood\n\nand bad", sentence(50, 200) * 3,
]  # fmt: skip


@pytest.fixture(scope="module")
def networks(encoder: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Exported folder of a random classifier with two outputs, in float32 and in int8."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason=f"no {name}: pip install -r requirements-export.txt")
    import torch
    from onnxruntime.quantization import quantize_dynamic
    from transformers import AutoModelForSequenceClassification

    class Logits(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, input_ids, attention_mask, token_type_ids):
            return self.model(input_ids, attention_mask, token_type_ids).logits

    model = AutoModelForSequenceClassification.from_pretrained(encoder, num_labels=2)
    for weight in model.parameters():
        weight.data *= 15 if weight.ndim == 2 else 1  # else it says nearly the same of all sentences
    folder = folder_of(tmp_path_factory.mktemp("export") / "networks")
    shutil.copy(Path(encoder) / "tokenizer.json", folder)
    names = ("input_ids", "attention_mask", "token_type_ids")
    torch.onnx.export(
        Logits(model).eval(), tuple(torch.full((2, 12), int(name != names[2])) for name in names),
        str(folder / "onnx" / "model.onnx"), input_names=names, output_names=["logits"], dynamo=True,
        external_data=False, dynamic_shapes=({0: "rows", 1: "tokens"},) * 3,
    )  # fmt: skip
    quantize_dynamic(folder / "onnx" / "model.onnx", folder / "onnx" / "model_int8.onnx", per_channel=True)
    return folder


def logits_of(folder: Path, texts: list[tuple[str, ...]], form: str) -> np.ndarray:
    """What Python says of texts: (N, outputs). Int8 sums in whole numbers that do not saturate, as browsers do."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(str(folder / "onnx" / f"{form}.onnx"), options)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(LENGTH, strategy="longest_first")
    found = []
    for text in texts:
        cut = tokenizer.encode(*text)
        inputs = {"input_ids": cut.ids, "attention_mask": cut.attention_mask, "token_type_ids": cut.type_ids}
        found.append(session.run(None, {name: np.array([ids], np.int64) for name, ids in inputs.items()})[0][0])
    return np.array(found, np.float64)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests."""
    assert PROGRAM
    with browser(tmp_path_factory.mktemp("profile"), PROGRAM) as made:
        yield made


Opened = Callable[..., str]


@pytest.fixture
def opened(networks, chromium, tmp_path, monkeypatch) -> Iterator[Opened]:
    """`opened(("teacher", "model", {..}), ..)` writes a page of networks, with changes of `config.json`, opens it.

    Gives the address of the folder that has it.
    """
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    (store := tmp_path / "data" / "cache" / "npm").mkdir(parents=True)
    for file in ARCHIVES:
        (store / file.name).symlink_to(file)

    def folder(name: str, form: str, changes: dict, texts: tuple[str, ...]) -> Path:
        made = folder_of(tmp_path / name, (networks / "onnx" / f"{form}.onnx").read_bytes(), **changes)
        shutil.copy(networks / "tokenizer.json", made)
        (made / "export.json").write_text(json.dumps({"text": texts}))
        return made

    with served(tmp_path) as address:

        def write(*models: tuple[str, str, dict], texts: tuple[str, ...] = ("sentence",)) -> str:
            folders = [(name, folder(name, *what, texts)) for name, *what in models]
            write_page(tmp_path / "page", folders)
            chromium.open(f"{address}page/")
            chromium.until(f"{STATUS} === 'Ready.'")
            return address

        yield write


STATUS = "document.getElementById('status').textContent"
CELLS = "[...document.querySelectorAll('tbody tr:not(:last-child) td')].map((cell) => cell.textContent)"
PAIR = (("teacher", "model", {}), ("LAD", "model_int8", {}))


def answers(chromium: Browser, texts: list[tuple[str, ...]], models: int) -> np.ndarray:
    """Ask the page for every text: (N, labels, models)."""
    found = []
    for number, text in enumerate(texts, 1):
        chromium.run(
            f"{json.dumps(text)}.forEach((text, at) => {{ document.getElementById(`text${{at}}`).value = text; }});"
            "document.getElementById('form').requestSubmit()"
        )
        chromium.until(f"document.getElementById('tally').textContent.includes('over {number} inputs')")
        found.append([float(cell) for cell in chromium.run(CELLS)])
    return np.array(found).reshape(len(texts), -1, models)


@pytest.mark.slow
@needs_browser
@needs_packages
class TestBrowser:
    def test_fifty_sentences_have_the_probabilities_of_python(self, opened, chromium, networks):
        """To four digits in float32; in int8 but for the few where the last bit of a float decides a rounding."""
        assert len(SENTENCES) == 50
        opened(*PAIR)
        texts = [(text,) for text in SENTENCES]
        got = answers(chromium, texts, 2)
        whole, small = (softmax(logits_of(networks, texts, form)) for form in ("model", "model_int8"))
        assert np.ptp(whole[:, 0]) > 0.2 and np.abs(whole - small).max() > 1e-3
        assert np.abs(got[:, :, 0] - whole).max() < 6e-5
        off = np.abs(got[:, :, 1] - small).max(1)
        assert (off < 6e-5).sum() >= 45 and off.max() < 0.005
        told = chromium.run("document.getElementById('tally').textContent")
        same = (got[:, :, 0].argmax(1) == got[:, :, 1].argmax(1)).sum()
        assert told.startswith(f"They agreed on {same} of 50 inputs. Times: ")

    def test_pairs_are_cut_as_python_cuts_them(self, opened, chromium, networks):
        texts = [(sentence(seed, one), sentence(seed + 1, other)) for seed, (one, other) in enumerate(
            [(5, 6), (200, 5), (5, 200), (200, 200), (60, 60), (21, 60), (19, 19), (20, 19)]
        )]  # fmt: skip
        texts += [(" ".join(one), " ".join(other)) for one, other in (
            (["good"] * 18, ["bad"] * 19), (["good"] * 19, ["bad"] * 19), (["good"] * 38, ["bad"]),
            (["good"], ["a"] * 50), (["good"] * 50, ["good"] * 49),
        )]  # fmt: skip
        opened(PAIR[0], texts=("question", "sentence"))
        got = answers(chromium, texts, 1)[:, :, 0]
        assert np.abs(got - softmax(logits_of(networks, texts, "model"))).max() < 6e-5
        assert "cut to 40 tokens" in chromium.run(STATUS)

    def test_labels_that_do_not_exclude_each_other_have_sigmoids(self, opened, chromium, networks):
        kind = {"problem_type": "multi_label_classification"}
        opened(("teacher", "model", kind), ("LAD", "model", kind))
        texts = [(text,) for text in SENTENCES[:6]]
        got, want = answers(chromium, texts, 2), 1 / (1 + np.exp(-logits_of(networks, texts, "model")))
        assert np.abs(got - want[:, :, None]).max() < 6e-5
        names = ", ".join(name for name, sure in zip(("negative", "positive"), want[-1], strict=True) if sure >= 0.5)
        assert chromium.run(STATUS) == f"teacher: {names or 'none'}. LAD: {names or 'none'}. They agree."

    def test_a_regression_shows_its_number(self, opened, chromium, networks):
        opened(
            ("teacher", "model", {"id2label": {"0": "score"}}),
            ("LAD", "model_int8", {"id2label": {"0": "score"}}),
        )
        texts = [(text,) for text in SENTENCES[:6]]
        got = answers(chromium, texts, 2)
        assert np.abs(got[:, 0, 0] - logits_of(networks, texts, "model")[:, 0]).max() < 6e-5
        one, other = got[-1, 0]
        differ = float(
            re.fullmatch(rf"teacher: {one:.4f}. LAD: {other:.4f}. They differ by (.*)\.", chromium.run(STATUS))[1]
        )
        assert differ == pytest.approx(abs(one - other), abs=1.1e-4)
        assert not chromium.run("document.querySelectorAll('meter').length")

    def test_labels_in_another_order_are_matched_by_name(self, opened, chromium):
        opened(PAIR[0], ("LAD", "model", {"id2label": {"0": "positive", "1": "negative"}}))
        negative, positive = answers(chromium, [(SENTENCES[0],)], 2)[0]
        assert negative[0] == positive[1] and positive[0] == negative[1] and negative[0] != positive[0]
        assert chromium.run(STATUS).endswith("They disagree.")

    def test_the_keyboard_is_enough_and_what_has_the_focus_is_seen(self, opened, chromium):
        opened(*PAIR)

        def focus() -> str:
            return chromium.run("document.activeElement.id || document.activeElement.tagName")

        def outlined() -> bool:
            return chromium.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"

        chromium.key("Tab", 9)
        assert focus() == "text0" and outlined()
        chromium.call("Input.insertText", text="good film")
        chromium.key("Enter", 13, "\r", modifiers=8)
        assert chromium.run("document.getElementById('text0').value") == "good film\n"
        chromium.key("Enter", 13, "\r")
        chromium.until("document.getElementById('tally').textContent.includes('over 1 inputs')")
        assert focus() == "text0"
        chromium.key("Tab", 9)
        assert focus() == "BUTTON" and outlined()
        chromium.key(" ", 32, " ")
        chromium.until("document.getElementById('tally').textContent.includes('over 2 inputs')")
        chromium.key("Tab", 9)
        assert focus() == "results" and outlined()

    def test_screen_readers_find_names_roles_and_are_told_the_answer(self, opened, chromium):
        opened(*PAIR)
        answers(chromium, [("good film",)], 2)
        nodes = chromium.call("Accessibility.getFullAXTree")["nodes"]
        found = {
            (node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]
        }
        assert {
            ("heading", "Teacher and student"), ("textbox", "Sentence"), ("button", "Ask the models"),
            ("region", "Answers"), ("table", "Probabilities"), ("columnheader", "teacher"), ("columnheader", "LAD"),
            ("rowheader", "negative"), ("rowheader", "positive"), ("rowheader", "median time"),
        } <= found  # fmt: skip
        assert not [name for role, name in found if role == "meter"]
        live = next(node for node in nodes if node["role"]["value"] == "status")
        assert {kind["name"]: kind["value"]["value"] for kind in live["properties"]}["live"] == "polite"
        said = r"teacher: (negative|positive), 0\.\d{4}\. LAD: (negative|positive), 0\.\d{4}\. They (dis)?agree\."
        assert re.fullmatch(said, chromium.run(STATUS))

    def test_nothing_is_asked_of_anyone_else_and_the_policy_holds(self, opened, chromium, tmp_path):
        address = opened(*PAIR)
        answers(chromium, [("good film",)], 2)
        asked = {event["request"]["url"] for event in chromium.told("Network.requestWillBeSent")}
        assert len(asked) >= 9 and all(url.startswith((f"{address}page/", "data:")) for url in asked)
        problems = [event["entry"]["text"] for event in chromium.told("Log.entryAdded")]
        assert not problems and not chromium.told("Runtime.exceptionThrown")
        with served(tmp_path) as elsewhere:
            away = f"fetch({elsewhere!r}, {{mode: 'no-cors'}}).then(() => 'came through', () => 'refused')"
            assert chromium.run(away) == "refused"
        assert chromium.run("try { new Function('1')(); 'ran' } catch { 'refused' }") == "refused"

    def test_it_follows_the_colours_of_the_system(self, opened, chromium):
        opened(*PAIR)
        seen = {}
        for scheme in ("light", "dark"):
            chromium.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
            made = chromium.run("getComputedStyle(document.getElementById('hint')).color")
            seen[scheme] = sum(map(int, re.findall(r"\d+", made)[:3]))
        assert seen["light"] < 3 * 128 < seen["dark"]

    def test_what_cannot_be_loaded_is_told(self, opened, chromium, tmp_path):
        address = opened(*PAIR)
        (tmp_path / "page" / "models" / "1" / "tokenizer.json").unlink()
        chromium.open(f"{address}page/?again")
        told = chromium.until(f"{STATUS}.startsWith('The models could not be loaded') && {STATUS}")
        assert "models/1/tokenizer.json: 404" in told and "python -m http.server" in told
        chromium.open((tmp_path / "page" / "index.html").as_uri())
        told = chromium.until(f"{STATUS}.startsWith('The models could not be loaded') && {STATUS}")
        assert "python -m http.server" in told
