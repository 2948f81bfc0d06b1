"""A tokenizer of words: text split at blanks, every word looked up; for networks on word vectors."""

from collections.abc import Sequence

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

PAD, UNKNOWN, MASK = "<pad>", "<unk>", "[MASK]"
SPECIAL = (PAD, UNKNOWN, MASK)
"""The words with rows of their own, in this order, before all others."""
MASKS = ("[MASK]", "<mask>")
"""What teachers call the mask; both are the same word here."""


def word_tokenizer(words: Sequence[str], lowercase: bool, max_seq_len: int) -> PreTrainedTokenizerFast:
    """Build a tokenizer; it adds no tokens of its own.

    Args:
        words: The vocabulary after `SPECIAL`; none of them is in it.
        lowercase: Lower-case text first.
        max_seq_len: Tokens of a text at most, for readers of its files.
    """
    vocabulary = {word: number for number, word in enumerate([*SPECIAL, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    # A special token is found before the text is lower-cased; what other teachers call the mask is replaced afterwards.
    steps = [normalizers.Lowercase()] if lowercase else []
    tokenizer.normalizer = normalizers.Sequence([*steps, *(normalizers.Replace(other, MASK) for other in MASKS[1:])])
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        unk_token=UNKNOWN,
        mask_token=MASK,
        model_max_length=max_seq_len,
        padding_side="right",
    )
    return made


def split_words(text: str, lowercase: bool) -> list[str]:
    """Split a text as the tokenizer does; masks are `MASK`."""
    return [MASK if word in MASKS else word.lower() if lowercase else word for word in text.split()]
