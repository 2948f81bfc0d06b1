"""A generated corpus of movie-review sentences with binary sentiment, in the file format of GLUE's SST-2.

The sentences come from a small grammar in which *every* template can be read with either verdict, so that what
a sentence says follows from how its words combine and not from which words it has:

* ``+symbol`` expands a symbol with the verdict of the template, ``-symbol`` with the opposite verdict and
  ``=symbol`` stands for neutral words; any other token is itself.
* Only ``POLAR`` words carry sentiment: index 0 lists the negative and index 1 the positive ones.
* A flip inside a template (``is not -adj``) is matched by a template that keeps the polarity with similar words
  (``is not just +adj``), so opinion words and negators are about as frequent under both labels.

What decides the label: negation and its idioms ("anything but"), double negation ("nobody can claim that ... is
not"), contrast (the half after "but" or outside "although" wins), intensity ("utterly" beats "a little"),
comparison ("far less ... than expected"), and reported, expected or hypothetical opinion ("they are wrong",
"in other hands"). Contrasts nest negated, compared and reported claims.

Most rows are a single claim, and claims affirm more often than they deny. Without that many plain rows there is
nothing easy to start from, and whether a small model gets going within a few hundred updates is chance.
"""

import pathlib
import random
import re

from fine_tune.files import write_text

SIZES = {"train": 4000, "dev": 500, "test": 500}
LONGEST = 12
SINGLE = 0.6
"""Share of the rows that are one claim; the others take any of `SKELETONS`."""

# fmt: off
POLAR: dict[str, tuple[list[str], list[str]]] = {
    "adj": (
        "aimless amateurish awkward boring careless charmless contrived derivative dreary feeble forgettable "
        "grating hollow incoherent insipid irritating joyless lifeless listless mechanical monotonous muddled "
        "plodding pointless ponderous predictable shallow shapeless sloppy soulless tedious tiresome "
        "unconvincing uninspired wooden".split(),
        "absorbing accomplished appealing assured captivating charming compelling confident convincing delightful "
        "elegant endearing engaging enjoyable entertaining graceful gripping imaginative impressive inspired "
        "intelligent inventive memorable moving perceptive playful polished refreshing rewarding satisfying "
        "skillful spirited stylish thoughtful vivid".split(),
    ),
    "noun": (
        "bore chore disappointment disaster dud failure fiasco letdown mess misfire ordeal slog".split(),
        "delight gem joy knockout marvel masterstroke pleasure revelation success treasure treat triumph".split(),
    ),
    "verb": (
        "alienate annoy bore disappoint exasperate exhaust frustrate irritate repel weary".split(),
        "captivate charm delight enchant engage entertain impress please satisfy thrill".split(),
    ),
}

NEUTRAL: dict[str, list[str]] = {
    "aspect": [
        "acting", "camera work", "cast", "climax", "dialogue", "direction", "editing", "ending", "finale", "first act",
        "humor", "lead performance", "narration", "opening", "pacing", "plot", "romance", "score", "screenplay",
        "script", "second half", "soundtrack", "staging", "storytelling", "supporting cast", "production design",
    ],
    "film": [
        "biopic", "comedy", "coming-of-age story", "courtroom drama", "crime story", "documentary", "drama",
        "family film", "fantasy", "ghost story", "heist movie", "musical", "mystery", "remake", "road movie",
        "romantic comedy", "sequel", "space adventure", "thriller", "war film", "western",
    ],
    "people": ["critics", "my friends", "the reviews", "some people", "my colleagues", "the papers"],
    "audience": ["viewers", "the audience", "patient viewers", "curious viewers"],
    "expected": ["expected", "i had expected", "the trailer suggests", "its fame suggests", "i was led to believe"],
    "strongly": ["utterly", "thoroughly", "deeply", "completely", "remarkably", "truly", "immensely"],
    "weakly": ["a little", "slightly", "somewhat", "a bit", "a touch", "mildly"],
    "slightly": ["slightly", "somewhat", "mildly", "faintly"],
    "remotely": ["remotely", "slightly", "faintly", "vaguely"],
    "yes": ["absolutely", "without a doubt", "very much so", "there is no question about it", "yes , to the very end"],
    "no": ["absolutely not", "not for a moment", "far from it", "not at all", "on the contrary"],
    "right": ["right", "not wrong", "not mistaken", "not off the mark"],
    "wrong": ["wrong", "not right", "mistaken", "off the mark"],
}

RULES: dict[str, list[str]] = {
    "claim": 5 * ["+affirmed"] + 2 * ["+denied"],
    "affirmed": [
        "the =aspect is +adj", "the =aspect is =strongly +adj",
        "the =aspect is +adj and +adj", "the =aspect is not just +adj but =strongly +adj",
        "the =aspect is nothing short of +adj", "the =aspect is nothing if not +adj",
        "the =aspect is never less than +adj", "the =aspect is never anything but +adj",
        "the =aspect could hardly be more +adj", "the =aspect could not be more +adj",
        "the =aspect is every bit as +adj as =expected", "the =aspect is even more +adj than =expected",
        "there is something =strongly +adj about the =aspect", "the =aspect is a +noun",
        "the =aspect is nothing less than a +noun", "the =aspect will +verb =audience",
        "the =aspect never fails to +verb =audience",
    ],
    "denied": [
        "the =aspect is not -adj", "the =aspect is not at all -adj",
        "the =aspect is neither -adj nor -adj", "the =aspect is not even =remotely -adj",
        "the =aspect is far from -adj", "the =aspect is hardly -adj",
        "the =aspect is never -adj", "the =aspect is anything but -adj",
        "the =aspect could hardly be less -adj", "the =aspect could not be less -adj",
        "the =aspect is not nearly as -adj as =expected", "the =aspect is far less -adj than =expected",
        "there is nothing even =remotely -adj about the =aspect", "the =aspect is no -noun",
        "the =aspect is anything but a -noun", "the =aspect will not -verb =audience",
        "the =aspect does not -verb =audience for a moment",
    ],
    "weighed": [
        "the =aspect is =strongly +adj , if =weakly -adj", "the =aspect is =weakly -adj and =strongly +adj",
        "the =aspect is only =weakly -adj and otherwise =strongly +adj", "the =aspect is more +adj than -adj",
        "the =aspect is less -adj than +adj", "the =aspect is not so much -adj as +adj",
        "the =aspect is +adj rather than -adj", "what seems -adj about the =aspect turns out to be +adj",
    ],
    # What a denying frame may hold: claims whose denial is again a plain opinion ("not utterly dull" is not).
    "statement": [
        "the =aspect is +adj", "the =aspect is a +noun",
        "the =aspect will +verb =audience", "the =aspect is not -adj",
        "the =aspect is far from -adj", "the =aspect is no -noun",
        "the =aspect will not -verb =audience",
    ],
    "framed": [
        "there is no denying that +statement", "there is no truth in the claim that -statement",
        "nobody can deny that +statement", "nobody can claim that -statement",
        "i do not doubt for a moment that +statement", "i do not believe for a moment that -statement",
        "only a fool would deny that +statement", "only a fool would claim that -statement",
    ],
    "winner": ["+claim", "+claim", "+weighed", "+framed"],
}

SKELETONS = [
    "+claim .", "+claim and +claim .",
    "+weighed .", "+framed .",
    # Contrast: the conceded half is the opposite of the verdict.
    "although -claim , +winner .", "+winner , although -claim .",
    "-claim , but +winner .", "-claim , yet for all that +winner .",
    "even if -claim , +winner .", "granted , -claim , but +winner .",
    "it hardly matters that -claim , because +winner .", "despite the -adj =aspect , +winner .",
    "the -adj =aspect aside , +winner .", "for all its -adj =aspect and -adj =aspect , +claim .",
    "the =aspect is -adj and the =aspect is -adj , but +winner .",
    "not even the -adj =aspect can change the fact that +claim .", "=people insist that -statement , but +winner .",
    "=people may call it a -noun , but +winner .",
    # Intensity and choice.
    "a =slightly -adj but =strongly +adj =film .", "this =film is =strongly +adj , if =weakly -adj in places .",
    "less a -adj =film than a +adj one .", "not a -adj =film but a +adj one .",
    "a +adj =film , and not just in places .", "not a -adj =film in any way .",
    # Expectation and hypothesis.
    "i expected a -adj =film and got a +adj one .", "i expected the =aspect to be +adj , and i was =right .",
    "i expected the =aspect to be -adj , but i was =wrong .",
    "the trailer makes it look like a +adj =film , and it is .",
    "the trailer makes it look like a -adj =film , and it is n't .",
    "in these hands the =aspect could only become +adj .", "in other hands the =aspect would have been -adj .",
    "i tried not to find the =aspect +adj , and failed .", "i tried to find the =aspect -adj , and failed .",
    # Reported opinion.
    "=people say that +statement , and they are =right .", "=people say that -statement , and they are =wrong .",
    "=people told me that +statement , and i could not agree more .",
    "=people told me that -statement , and i could not agree less .",
    "if you heard that +statement , you heard right .", "if you heard that -statement , you heard wrong .",
    "is the =aspect +adj ? =yes .", "is the =aspect -adj ? =no .",
    "the first word i would use for this =film is +adj .", "the last word i would use for this =film is -adj .",
]
# fmt: on

# A sentence that used one of these twice would repeat or contradict itself.
CONTENT_WORDS = {
    word for entries in (*sum(POLAR.values(), ()), NEUTRAL["aspect"]) for entry in entries for word in entry.split()
}


def options(symbol: str, positive: bool) -> list[str]:
    """Return the templates or words that a grammar symbol may stand for under a verdict."""
    return POLAR[symbol][positive] if symbol in POLAR else NEUTRAL.get(symbol) or RULES[symbol]


def pick(items: list[str], rng: random.Random) -> str:
    """Draw one item; of a generator's methods only `random()` is promised to stay the same in later Pythons."""
    return items[int(rng.random() * len(items))]


def realise(template: str, positive: bool, rng: random.Random) -> str:
    """Expand a template into words that carry the verdict."""
    words = []
    for token in template.split():
        if token[0] in "+-=":
            verdict = positive != (token[0] == "-")
            token = realise(pick(options(token[1:], verdict), rng), verdict, rng)
        words.append(token)
    return re.sub(r"\ba (?=[aeiou])", "an ", " ".join(words))


def make_sentence(positive: bool, rng: random.Random) -> str:
    """Draw a sentence with the given verdict, of at most `LONGEST` words and no content word twice."""
    single = rng.random() < SINGLE
    while True:
        words = realise("+claim ." if single else pick(SKELETONS, rng), positive, rng).split()
        content = [word for word in words if word in CONTENT_WORDS]
        if len(words) <= LONGEST and len(content) == len(set(content)):
            return " ".join(words)


def make_corpus(seed: int = 42, sizes: dict[str, int] | None = None) -> dict[str, list[tuple[str, int]]]:
    """Generate the splits of the corpus.

    Args:
        seed: Seed of the draws; the same seed gives the same corpus everywhere.
        sizes: Rows per split, `SIZES` by default.

    Returns:
        For each split its rows of sentence and label (1 is positive), half of them positive and no sentence
        twice in the whole corpus.
    """
    rng = random.Random(seed)
    seen: set[str] = set()
    corpus = {}
    for split, size in (sizes or SIZES).items():
        rows: list[tuple[str, int]] = []
        while len(rows) < size:
            label = len(rows) % 2
            sentence = make_sentence(bool(label), rng)
            if sentence not in seen:
                seen.add(sentence)
                rows.append((sentence, label))
        corpus[split] = sorted(rows, key=lambda _: rng.random())
    return corpus


def corpus_files(corpus: dict[str, list[tuple[str, int]]]) -> dict[str, str]:
    """Lay the corpus out as GLUE does: the text of each file by its name, the test split without its labels."""
    lines = {split: ["sentence\tlabel", *(f"{text}\t{label}" for text, label in corpus[split])] for split in SIZES}
    lines["test"] = ["index\tsentence", *(f"{index}\t{text}" for index, (text, _) in enumerate(corpus["test"]))]
    return {f"{split}.tsv": "\n".join(rows) + "\n" for split, rows in lines.items()}


def table(corpus: dict[str, list[tuple[str, int]]]) -> str:
    """Lay the training rows out as a csv of `review` and `sentiment`, the latter in words."""
    import pandas as pd  # imported here: nothing else needs it

    rows = [(text, ("negative", "positive")[label]) for text, label in corpus["train"]]
    text: str = pd.DataFrame(rows, columns=["review", "sentiment"]).to_csv(index=False, lineterminator="\n")
    return text


def write_files(folder: pathlib.Path, files: dict[str, str]) -> None:
    """Write texts into a folder by the names of their files, each of them whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        write_text(folder / name, text)


def write_corpus(folder: pathlib.Path, seed: int = 42) -> None:
    """Write train.tsv, dev.tsv and test.tsv into a folder."""
    write_files(folder, corpus_files(make_corpus(seed)))


def bag_of_words_accuracy(corpus: dict[str, list[tuple[str, int]]], ngrams: int = 1) -> float:
    """Return the dev accuracy of logistic regression on the counts of the n-grams of up to `ngrams` words."""
    from sklearn import feature_extraction, linear_model, pipeline  # type: ignore[import-untyped, unused-ignore]

    counts = feature_extraction.text.CountVectorizer(token_pattern=r"\S+", ngram_range=(1, ngrams))
    model = pipeline.make_pipeline(counts, linear_model.LogisticRegression(max_iter=1000))
    model.fit(*zip(*corpus["train"], strict=True))
    return float(model.score(*zip(*corpus["dev"], strict=True)))
