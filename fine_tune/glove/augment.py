"""Samples of a text: some words masked, some replaced by others of the same part of speech, maybe an n-gram masked.

Source: Tang et al. 2019, arXiv:1903.12136, section 3.3. Of each of `n_iter` samples:

1. Every word draws u from U(0, 1). u < p_mask: it becomes the mask token; u < p_mask + p_pos: a word of its tag, drawn
   uniformly from the distinct ones, maybe itself; else it stays.
2. With probability p_ng, where there are more than two words, an n-gram becomes mask tokens: n is uniform in 1..max_ng,
   but at most all words but one, and its start uniform.
3. It is kept if neither the text nor an earlier sample is the same.

Departures from the paper: the n-gram is masked, the paper keeps nothing else (so does the released code). Departures
from the released code: random numbers come from the caller, seeded; an n-gram can hold the last word; samples are
compared word by word, with the text, too; `cap` counts up to half of the words, that number included.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from fine_tune.glove.flags import AugmentConfig


def samples(
    words: Sequence[str],
    tags: Sequence[str],
    by_tag: Mapping[str, Sequence[str]],
    cfg: AugmentConfig,
    generator: np.random.Generator,
) -> list[tuple[str, ...]]:
    """Draw the samples of a text.

    Args:
        words: The text.
        tags: Part of speech of every word.
        by_tag: The distinct words of each tag; a word whose tag is not there is never replaced, but may be masked.
        cfg: Probabilities.
        generator: Gives all random numbers.

    Returns:
        The text, then its distinct samples.
    """
    times, length = cfg.n_iter, len(words)
    choices = [by_tag.get(tag, ()) for tag in tags]
    drawn = generator.random((times, length))
    masked = drawn < cfg.p_mask
    changed = masked | (drawn < cfg.p_mask + cfg.p_pos) & np.array([bool(others) for others in choices])
    has_ngram = (generator.random(times) < cfg.p_ng) & (length > 2)
    size = np.minimum(generator.integers(1, cfg.max_ng, times, endpoint=True), max(1, length - 1))
    start = (generator.random(times) * (length - size + 1)).astype(int)
    if cfg.cap:
        changed &= changed.cumsum(1) <= length // 2
        has_ngram &= changed.sum(1) + size <= length // 2

    drafts = [list(words) for _ in range(times)]
    number, at = np.nonzero(changed)
    pick = generator.random(len(at))
    for i, j, mask, u in zip(number.tolist(), at.tolist(), masked[number, at].tolist(), pick.tolist(), strict=True):
        drafts[i][j] = cfg.mask_token if mask else choices[j][int(u * len(choices[j]))]
    for i in np.flatnonzero(has_ngram).tolist():
        drafts[i][start[i] : start[i] + size[i]] = [cfg.mask_token] * int(size[i])
    return list(dict.fromkeys([tuple(words), *map(tuple, drafts)]))
