"""Networks on word vectors against NumPy in float64, written from their description; encoders of other families."""

import inspect
import re
from pathlib import Path

import numpy as np
import pytest
import reference
import torch
import transformers
from conftest import SIZES

from fine_tune.data.words import word_tokenizer
from fine_tune.glove.config import read_config
from fine_tune.glove.material import word_classifier
from fine_tune.hardware.cpu.kernels import use_cpu_kernels
from fine_tune.losses import hard_target_loss, logit_mse_loss
from fine_tune.model.classifier import Classifier, encoder_layers
from fine_tune.model.encoder import empty_encoder
from fine_tune.model.words import WordConfig, WordEncoder, routed
from fine_tune.path import NETWORKS, PROJECT

CONFIGS = PROJECT / "glove_student" / "configs"
SMALL = {
    "vocab_size": 9, "embedding_size": 6, "num_filters": 5, "densenet_kernels": [[1, 1], [3, 3], [3, 5], [5, 9]],
    "densenet_first_num_filters": 4, "densenet_num_filters": 3, "densenet_last_num_filters": 7, "dropout": 0.0,
    "dsa_num_attentions": 2, "dsa_dim": 5,
}  # fmt: skip
OWN = {"glove-cnn": {"kernel_sizes": [2, 3, 6], "fc_hidden_size": 4}, "densenet-cnn": {"kernel_sizes": [2, 4, 14]}}
OWN["densenet-dsa"] = {"dsa_r": 3, "fc_hidden_size": 4}
EACH = pytest.mark.parametrize("network", NETWORKS)
LENGTHS = range(1, 13)
SETTINGS = set(inspect.signature(WordConfig).parameters) - {"others"}


def small(network: str, **sizes: object) -> Classifier:
    """A small network with random weights all over, biases and norms too."""
    model = Classifier(WordEncoder(WordConfig(network, **SMALL | OWN[network] | sizes)), 2, 0.0)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "words" not in name:
                weights.normal_(1.0 if re.search(r"norm.weight|hidden.1.weight", name) else 0.0, 0.4)
    return model.eval()


def sentences() -> list[list[int]]:
    draw = np.random.default_rng(0)
    return [draw.integers(1, 9, length).tolist() for length in LENGTHS]


def padded(rows: list[list[int]], width: int = 0) -> dict[str, torch.Tensor]:
    ids = torch.zeros(len(rows), max(width, *map(len, rows), 1), dtype=torch.int64)
    for row, words in zip(ids, rows, strict=True):
        row[: len(words)] = torch.tensor(words)
    return {"input_ids": ids, "attention_mask": (ids != 0).float(), "token_type_ids": torch.zeros_like(ids)}


def alone(words: list[int]) -> dict[str, torch.Tensor | None]:
    return padded([words]) | {"attention_mask": None}


class Numpy:
    """The networks for one sentence without padding, from its word ids to logits."""

    def __init__(self, model: Classifier) -> None:
        self.config = model.encoder.config
        self.weights = {name: weights.detach().double().numpy() for name, weights in model.named_parameters()}

    def linear(self, name, x):
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def norm(self, name, x):
        centred = x - x.mean(-1, keepdims=True)
        normal = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        return normal * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def convolution(self, name, x, width, before, after):
        """out[t, f] = b[f] + sum over k, c of W[f, k, c] x[t - before + k, c], where x is 0 outside."""
        kernel, bias = self.weights[f"{name}.linear.weight"], self.weights[f"{name}.linear.bias"]
        kernel = kernel.reshape(len(kernel), width, x.shape[1])
        given = np.concatenate([np.zeros((before, x.shape[1])), x, np.zeros((after, x.shape[1]))])
        out = np.zeros((len(given) - width + 1, len(kernel)))
        for t in range(len(out)):
            out[t] = bias
            for k in range(width):
                out[t] += kernel[:, k] @ given[t + k]
        return out

    def windows(self, name, x):
        """Of every width, the largest response of windows that begin at a word; ReLU."""
        found = []
        for number, width in enumerate(self.config.kernel_sizes):
            found.append(self.convolution(f"{name}convolutions.{number}", x, width, 0, width - 1).max(0))
        return np.maximum(np.concatenate(found), 0)

    def block(self, x, slope):
        name, ends = "encoder.network.block", [x]
        for column, widths in enumerate(zip(*self.config.densenet_kernels, strict=True)):
            outputs = [x]
            for row, width in enumerate(widths):
                given = np.concatenate(outputs[bool(row) :], 1)
                made = self.convolution(f"{name}.chains.{column}.{row}", given, width, width // 2, width // 2)
                outputs.append(np.where(made > 0, made, slope * made))
            ends.append(outputs[-1])
        return np.maximum(self.linear(f"{name}.last", np.concatenate(ends, 1)), 0)

    def attention(self, x):
        heads = self.linear("encoder.network.heads", x)
        heads = np.where(heads > 0, heads, 0.01 * heads).reshape(len(x), -1, self.config.dsa_dim)
        return np.concatenate([attended(heads[:, head], self.config.dsa_r) for head in range(heads.shape[1])])

    def logits(self, words: list[int]) -> np.ndarray:
        x, network = self.weights["encoder.words.weight"][words], self.config.network
        if network == "glove-cnn":
            made = self.windows("encoder.network.", x)
        else:
            states = self.norm("encoder.network.norm", self.block(x, 0.01 if network == "densenet-dsa" else 0))
            made = self.attention(states) if network == "densenet-dsa" else self.windows(
                "encoder.network.windows.", states
            )  # fmt: skip
        made = self.norm("encoder.norm", made)
        if self.config.fc_hidden_size:
            made = self.norm("encoder.hidden.1", self.linear("encoder.hidden.0", made))
        return self.linear("linear_layer", made)


def attention_weights(x: np.ndarray, rounds: int) -> np.ndarray:
    """Weights (T) of the last round over tokens (T, D)."""
    scores = np.zeros(len(x))
    for _ in range(rounds - 1):
        scores = scores + x @ np.tanh(reference.softmax(scores[None])[0] @ x)
    return reference.softmax(scores[None])[0]


def attended(x: np.ndarray, rounds: int) -> np.ndarray:
    return np.tanh(attention_weights(x, rounds) @ x)


@pytest.mark.parametrize(
    ("file", "count"), [("glove-cnn", 1_868_802), ("densenet-cnn", 2_607_842), ("densenet-dsa", 3_785_282)]
)
def test_the_documents_networks_have_as_many_parameters_as_its_own(file, count):
    matrix = np.zeros((3, 300), np.float32)
    model = word_classifier(read_config(CONFIGS / f"config-{file}.json"), matrix, 2, False)
    assert sum(weights.numel() for weights in model.parameters() if weights.requires_grad) == count
    assert model.state_dict()["encoder.words.weight"].shape == (3, 300)


@EACH
@pytest.mark.parametrize(("double", "near"), [(True, 1e-10), (False, 1e-5)])
def test_networks_are_the_reference_with_and_without_padding(network, double, near):
    """Sentences of 1 to 12 words; the longest kernel is longer than them all."""
    model, rows = small(network), sentences()
    model = model.double() if double else model
    want = np.stack([Numpy(model).logits(words) for words in rows])

    def logits(inputs):
        """In float64 by its parts: a classifier's logits are float32."""
        if double:
            return model.linear_layer(model.encoder(inputs["input_ids"], inputs["attention_mask"])).numpy()
        return model(**inputs).logits.numpy()

    with torch.no_grad():
        together, wider = logits(padded(rows)), logits(padded(rows, 20))
        one_by_one = np.concatenate([logits(alone(words)) for words in rows])
        use_cpu_kernels(model)
        kernels = logits(padded(rows))
    for got in (together, wider, one_by_one, kernels):
        assert np.abs(got - want).max() < near * np.abs(want).max()
    assert np.abs(want[:, None] - want[None]).max() > 0.1  # sentences differ


@EACH
def test_another_sentence_of_the_batch_changes_no_gradient(network):
    """Of the word vectors, where they learn; that of padding is zero."""
    grads = []
    for others in ([], [[3] * 12, [4]]):
        model = small(network, trainable=True)
        torch.manual_seed(1)
        for weights in model.parameters():
            torch.nn.init.normal_(weights, std=0.4)
        model.encoder.words.weight.data[0] = 0
        model(**padded([[1, 5, 2], *others])).logits[0].sum().backward()
        grads.append(model.encoder.words.weight.grad)
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-5)
    assert not grads[0][[0, 3, 4]].any() and grads[0][[1, 5, 2]].any(1).all()


@pytest.mark.parametrize("rounds", [1, 2, 3, 5])
def test_routing_is_the_reference_and_its_gradient_that_of_the_last_round(rounds):
    """Finite differences of the last sum, whose weights stay what they were."""
    lengths = (1, 4, 6)
    heads = 2 * torch.randn(3, 2, 6, 4, dtype=torch.float64)
    mask = torch.arange(6)[None, None] < torch.tensor(lengths)[:, None, None]
    for factor in (1, 100):  # large scores, too
        given = (factor * heads).requires_grad_()
        out = routed(given, mask, rounds)
        (out * (aim := torch.randn_like(out))).sum().backward()
        assert given.grad.isfinite().all()
        for row, length in enumerate(lengths):
            for head in range(2):
                x, way = given[row, head, :length].detach().numpy(), aim[row, head].numpy()
                weights = attention_weights(x, rounds)
                assert out[row, head].detach().numpy() == pytest.approx(attended(x, rounds), rel=1e-10, abs=1e-12)
                slope = reference.slope(lambda moved, a=weights, w=way: float(np.tanh(a @ moved) @ w), x)
                assert given.grad[row, head, :length].numpy() == pytest.approx(slope, rel=1e-5, abs=1e-7)
            assert not given.grad[row, :, length:].any()
    full = heads[:1]
    torch.testing.assert_close(routed(full, None, rounds), routed(full, torch.ones(1, 1, 6).bool(), rounds))


def test_masks_unknown_words_and_padding_have_rows_of_their_own():
    tokenizer = word_tokenizer(["good", "film"], True, 100)
    made = tokenizer(["Good [MASK] <mask> zzz [mask] FILM", "good"], padding=True)
    assert made["input_ids"] == [[3, 2, 2, 1, 1, 4], [3, 0, 0, 0, 0, 0]]
    assert word_tokenizer(["good"], False, 100)("Good good <mask>")["input_ids"] == [1, 3, 2]


@EACH
def test_the_configuration_of_a_run_builds_the_same_network(network, tmp_path: Path):
    model = small(network)
    model.encoder.config.to_json_file(tmp_path / "encoder.json")
    again = Classifier(empty_encoder(tmp_path, {"dropout": 0.0}, {}), 2, 0.0).eval()
    again.load_state_dict(model.state_dict())
    sizes = [{name: getattr(one.encoder.config, name) for name in SETTINGS} for one in (again, model)]
    assert sizes[0] == sizes[1]
    rows = padded(sentences())
    assert torch.equal(again(**rows).logits, model(**rows).logits)
    assert not again.encoder.words.weight.requires_grad


def test_losses_are_the_reference():
    student, teacher = (torch.randn(4, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    loss, want = logit_mse_loss(student, teacher), ((student - teacher).detach().numpy() ** 2).sum() / 12
    loss.backward()
    assert loss.item() == pytest.approx(want) and teacher.grad is None
    assert student.grad.numpy() == pytest.approx((student - teacher).detach().numpy() / 6)
    none = hard_target_loss(student, None)
    assert none.item() == 0 and none.dtype == student.dtype and not none.requires_grad


SHAPE = SIZES | {"num_hidden_layers": 2}
DISTIL = {"vocab_size": 60, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32, "max_position_embeddings": 64}
FAMILIES = {
    "roberta": (transformers.RobertaConfig(**SHAPE, pad_token_id=0), True),
    "xlm-roberta": (transformers.XLMRobertaConfig(**SHAPE, pad_token_id=0), True),
    "electra": (transformers.ElectraConfig(**SHAPE, embedding_size=8), False),
    "distilbert": (transformers.DistilBertConfig(**DISTIL), False),
    "mpnet": (transformers.MPNetConfig(**SHAPE, pad_token_id=0), True),
}


@pytest.mark.parametrize("kind", FAMILIES)
def test_encoders_of_other_families_are_classified_by_their_first_token(kind):
    """Through the pooler where there is one; as the library has it, alone as in a batch, with our operators, too."""
    config, has_pooler = FAMILIES[kind]
    encoder = transformers.AutoModel.from_config(config)
    for weights in encoder.parameters():
        if weights.dim() > 1:  # all but biases and norms
            torch.nn.init.normal_(weights, std=0.5)
    model, rows = Classifier(encoder, 2, 0.1).eval(), sentences()
    with torch.no_grad():
        model.linear_layer.weight.normal_()
        got = model(**padded(rows)).logits
        batch = padded(rows)
        made = encoder(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        assert (getattr(made, "pooler_output", None) is not None) == has_pooler
        vector = made.pooler_output if has_pooler else made.last_hidden_state[:, 0]
        torch.testing.assert_close(got, model.linear_layer(vector), rtol=1e-5, atol=1e-5)
        out = torch.cat([model(**alone(words)).logits for words in rows])
        torch.testing.assert_close(got, out, rtol=1e-5, atol=1e-5)
        assert (got - got[0]).abs().max() > 0.1
        use_cpu_kernels(model)
        torch.testing.assert_close(model(**padded(rows)).logits, got, rtol=1e-5, atol=1e-5)
        assert len(model(**padded(rows)).hidden_states) == len(encoder_layers(encoder)) == 2
