"""Networks on word vectors in the place of a transformer: a CNN, densely connected CNNs, dynamic self-attention.

An encoder here gives one vector (B, D) a sentence; `Classifier` puts dropout and a linear layer on it, as on BERT.
Shapes: B batch, T tokens, E width of the word vectors, C channels, F filters. Token 0 is padding, on the right.

Source: Kim 2014 (CNN); Yoon et al. 2018, arXiv 1808.07383 (dynamic self-attention); the networks of the GloVe document.
Departures from its code, all so that a sentence's logits do not depend on padding or on its batch:
1. Windows of the CNN begin at real tokens, what is beyond the end is 0; there, windows over padding alone take part.
2. Padding is 0 again after the layer norm that follows the dense block; there, it is the norm's bias.
3. Attention is a softmax over real tokens alone; there, scores of padding are multiplied by -1e20, whatever their sign.
4. Unknown words and the mask token have rows of their own.
"""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

PADDING = 0


class WordConfig(PreTrainedConfig):  # type: ignore[misc]
    """Shape of a network on word vectors.

    Args:
        network: `glove-cnn`, `densenet-cnn` or `densenet-dsa`.
        vocab_size: Words, with padding, the unknown word and the mask.
        embedding_size: E.
        num_filters: F of each width of the CNN.
        kernel_sizes: Those widths, in tokens.
        densenet_kernels: Widths of the dense block's convolutions, row by row; a column is a chain.
        densenet_first_num_filters: Channels of a chain's first convolution.
        densenet_num_filters: Channels of each later one.
        densenet_last_num_filters: Channels of the block's output.
        dsa_num_attentions: Heads.
        dsa_dim: Width of a head.
        dsa_r: Rounds of routing.
        fc_hidden_size: Width of the linear layer before the classifier; 0 for none.
        dropout: Of vectors and states.
        trainable: Whether the word vectors learn.
        max_position_embeddings: Tokens of a sentence at most.
    """

    model_type = "word_network"
    special = ("pad", "unk", "mask")
    """Tokens that its tokenizer has to have."""

    def __init__(
        self,
        network: str = "densenet-cnn",
        vocab_size: int = 3,
        embedding_size: int = 300,
        num_filters: int = 256,
        kernel_sizes: Sequence[int] = (2, 3, 4),
        densenet_kernels: Sequence[Sequence[int]] = ((1, 1), (3, 3), (3, 5), (3, 7), (3, 9)),
        densenet_first_num_filters: int = 200,
        densenet_num_filters: int = 100,
        densenet_last_num_filters: int = 400,
        dsa_num_attentions: int = 8,
        dsa_dim: int = 300,
        dsa_r: int = 2,
        fc_hidden_size: int = 0,
        dropout: float = 0.3,
        trainable: bool = False,
        max_position_embeddings: int = 100,
        **others: object,
    ) -> None:
        self.network = network
        self.vocab_size = vocab_size
        self.embedding_size = embedding_size
        self.num_filters = num_filters
        self.kernel_sizes = list(kernel_sizes)
        self.densenet_kernels = [list(row) for row in densenet_kernels]
        self.densenet_first_num_filters = densenet_first_num_filters
        self.densenet_num_filters = densenet_num_filters
        self.densenet_last_num_filters = densenet_last_num_filters
        self.dsa_num_attentions = dsa_num_attentions
        self.dsa_dim = dsa_dim
        self.dsa_r = dsa_r
        self.fc_hidden_size = fc_hidden_size
        self.dropout = dropout
        self.trainable = trainable
        self.max_position_embeddings = max_position_embeddings
        # What the package asks of every encoder.
        self.type_vocab_size, self.num_hidden_layers = 1, 0
        super().__init__(**{"pad_token_id": PADDING} | others)

    @property
    def features(self) -> int:
        """Width of what the network makes of a sentence, before a linear layer."""
        if self.network == "densenet-dsa":
            return self.dsa_num_attentions * self.dsa_dim
        return len(self.kernel_sizes) * self.num_filters

    @property
    def hidden_size(self) -> int:
        """D."""
        return self.fc_hidden_size or self.features

    @property
    def intermediate_size(self) -> int:
        """Channels of a token over all convolutions and heads, from which `run.memory` estimates what a batch takes."""
        rows, columns = len(self.densenet_kernels), len(self.densenet_kernels[0])
        chain = self.densenet_first_num_filters + (rows - 1) * self.densenet_num_filters
        block = columns * chain + self.densenet_last_num_filters
        return self.embedding_size + self.features + (0 if self.network == "glove-cnn" else block)


class WordEncoder(PreTrainedModel):  # type: ignore[misc]
    """Word vectors and a network on them: token ids (B, T) to sentence vectors (B, D)."""

    config_class = WordConfig
    config: WordConfig

    def __init__(self, config: WordConfig) -> None:
        super().__init__(config)
        self.words = nn.Embedding(config.vocab_size, config.embedding_size, padding_idx=PADDING)
        self.words.weight.requires_grad_(config.trainable)
        self.dropout = nn.Dropout(config.dropout)
        self.network = NETWORKS[config.network](config)
        self.norm = nn.LayerNorm(config.features)
        self.hidden = Hidden(config) if config.fc_hidden_size else None

    def get_input_embeddings(self) -> nn.Embedding:
        """Give the word vectors."""
        return self.words

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Encode a batch of right-padded sentences; both arguments are (B, T), the mask None if there is no padding."""
        mask = None if attention_mask is None else attention_mask.unsqueeze(-1).bool()  # (B, T, 1)
        vector: Tensor = self.norm(self.network(self.dropout(self.words(input_ids)), mask))
        return self.hidden(self.dropout(vector)) if self.hidden else vector


class Hidden(nn.Sequential):
    """A linear layer, without activation, and a layer norm: (B, features) to (B, D)."""

    def __init__(self, config: WordConfig) -> None:
        super().__init__(nn.Linear(config.features, config.hidden_size), nn.LayerNorm(config.hidden_size))


class Convolution(nn.Module):
    """A convolution over time as one linear layer on windows: (B, T + width - 1, C) to (B, T, F).

    On short sentences that is twice as fast as the library's convolution; it starts from the same distribution.
    """

    def __init__(self, channels: int, filters: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.linear = nn.Linear(width * channels, filters)

    def forward(self, states: Tensor) -> Tensor:
        """Look at every window."""
        windows = states.unfold(1, self.width, 1).transpose(2, 3)  # (B, T, width, C)
        made: Tensor = self.linear(windows.reshape(-1, self.linear.in_features))
        return made.view(*windows.shape[:2], -1)


class Windows(nn.Module):
    """Convolutions of several widths, ReLU, the largest value over time: (B, T, C) to (B, len(kernel_sizes) * F)."""

    def __init__(self, channels: int, config: WordConfig) -> None:
        super().__init__()
        self.widths = config.kernel_sizes
        self.convolutions = nn.ModuleList(Convolution(channels, config.num_filters, width) for width in self.widths)

    def forward(self, states: Tensor, mask: Tensor | None) -> Tensor:
        """Look at every window that begins at a real token; `states` are 0 where `mask` (B, T, 1) is."""
        length = states.shape[1]
        states = F.pad(states, (0, 0, 0, max(self.widths) - 1))
        found = []
        for width, convolution in zip(self.widths, self.convolutions, strict=True):
            responses = convolution(states[:, : length + width - 1])
            if mask is not None:
                responses = responses.masked_fill(~mask, float("-inf"))
            found.append(responses.amax(1).relu())
        return torch.cat(found, -1)


class DenseBlock(nn.Module):
    """Chains of convolutions, each of which reads all outputs of its chain before it: (B, T, E) to (B, T, C).

    Args:
        config: Its sizes.
        slope: Of the activation, for negative values.
    """

    def __init__(self, config: WordConfig, slope: float) -> None:
        super().__init__()
        first, later = config.densenet_first_num_filters, config.densenet_num_filters
        channels = [config.embedding_size, *(first + later * row for row in range(len(config.densenet_kernels) - 1))]
        self.chains = nn.ModuleList(
            nn.ModuleList(
                Convolution(inputs, later if row else first, width)
                for row, (inputs, width) in enumerate(zip(channels, widths, strict=True))
            )
            for widths in zip(*config.densenet_kernels, strict=True)
        )
        inputs = config.embedding_size + len(self.chains) * later
        self.last = nn.Linear(inputs, config.densenet_last_num_filters)
        self.slope = slope

    def forward(self, vectors: Tensor, mask: Tensor | None) -> Tensor:
        """Run the chains; padding stays 0."""
        ends = [vectors]
        for chain in cast("list[list[Convolution]]", self.chains):
            outputs: list[Tensor] = []
            for convolution in chain:
                side = convolution.width // 2
                states = F.pad(torch.cat(outputs, -1) if outputs else vectors, (0, 0, side, side))
                outputs.append(F.leaky_relu(masked(convolution(states), mask), self.slope))
            ends.append(outputs[-1])
        return masked(self.last(torch.cat(ends, -1)), mask).relu()


def masked(states: Tensor, mask: Tensor | None) -> Tensor:
    """Set what is made of padding to 0."""
    return states if mask is None else states * mask


class GloveCnn(Windows):
    """Windows over the word vectors themselves."""

    def __init__(self, config: WordConfig) -> None:
        super().__init__(config.embedding_size, config)


class DenseNet(nn.Module):
    """What both dense networks begin with: the block, a layer norm over channels, dropout."""

    def __init__(self, config: WordConfig, slope: float) -> None:
        super().__init__()
        self.block = DenseBlock(config, slope)
        self.norm = nn.LayerNorm(config.densenet_last_num_filters)
        self.dropout = nn.Dropout(config.dropout)

    def states(self, vectors: Tensor, mask: Tensor | None) -> Tensor:
        """Give (B, T, C), 0 at padding."""
        return masked(self.dropout(self.norm(self.block(vectors, mask))), mask)


class DenseNetCnn(DenseNet):
    """Windows over a dense block."""

    def __init__(self, config: WordConfig) -> None:
        super().__init__(config, slope=0.0)
        self.windows = Windows(config.densenet_last_num_filters, config)

    def forward(self, vectors: Tensor, mask: Tensor | None) -> Tensor:
        """Encode (B, T, E)."""
        made: Tensor = self.windows(self.states(vectors, mask), mask)
        return made


class DenseNetDsa(DenseNet):
    """Dynamic self-attention over a dense block: every head finds its weights in rounds, from what it found before."""

    def __init__(self, config: WordConfig) -> None:
        super().__init__(config, slope=0.01)
        self.heads = nn.Linear(config.densenet_last_num_filters, config.dsa_num_attentions * config.dsa_dim)
        self.dim, self.rounds = config.dsa_dim, config.dsa_r

    def forward(self, vectors: Tensor, mask: Tensor | None) -> Tensor:
        """Encode (B, T, E)."""
        heads = F.leaky_relu(self.heads(self.states(vectors, mask))).unflatten(-1, (-1, self.dim)).transpose(1, 2)
        return routed(heads, None if mask is None else mask.transpose(1, 2), self.rounds).flatten(1)


def routed(heads: Tensor, mask: Tensor | None, rounds: int) -> Tensor:
    """Sum the tokens of every head with weights found in rounds; gradients flow through the last sum alone.

    Args:
        heads: (B, H, T, D).
        mask: (B, 1, T), true for real tokens; None if all are.
        rounds: r; the first weighs all real tokens alike.

    Returns:
        (B, H, D).
    """
    scores = heads.new_zeros(heads.shape[:-1])  # (B, H, T)
    known = heads.detach()
    for _ in range(rounds - 1):
        summed = weighted_sum(known, scores, mask)
        scores = scores + (known @ summed.unsqueeze(-1)).squeeze(-1)
    return weighted_sum(heads, scores, mask)


def weighted_sum(heads: Tensor, scores: Tensor, mask: Tensor | None) -> Tensor:
    """Sum tokens by the softmax of their scores; (B, H, D) after tanh."""
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    weights = scores.softmax(-1)
    return (weights.unsqueeze(-2) @ heads).squeeze(-2).tanh()


NETWORKS: dict[str, type[nn.Module]] = {
    "glove-cnn": GloveCnn,
    "densenet-cnn": DenseNetCnn,
    "densenet-dsa": DenseNetDsa,
}


def register() -> None:
    """Have the library's `AutoConfig` and `AutoModel` know the networks."""
    AutoConfig.register(WordConfig.model_type, WordConfig, exist_ok=True)
    AutoModel.register(WordConfig, WordEncoder, exist_ok=True)
