"""Pictures of [CLS]: where a model puts the rows of a split, by class, for several checkpoints side by side.

Two projections to the plane, over each other: principal components, and t-SNE (van der Maaten, Hinton 2008) of 50 of
them. Above each column the silhouette (Rousseeuw 1987) of the classes in full width, by cosine: 1 where rows are near
their own class and far from the others, 0 where classes overlap. Both projections and the silhouette are of the same
sample of rows. TensorBoard's projector gets every row.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from google.protobuf import text_format  # type: ignore[import-untyped]
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_score
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig  # type: ignore[import-untyped]
from torch.utils.tensorboard import SummaryWriter

from fine_tune.files import write_text
from fine_tune.plot.style import COLOURS, MARKERS, WIDTH, Picture

COMPONENTS = 50
"""Principal components that t-SNE starts from, as its authors do."""


class Cloud(NamedTuple):
    """What a checkpoint makes of some rows: `vectors` (N, D), their class numbers `label` (N,)."""

    vectors: NDArray[np.float32]
    label: NDArray[np.int64]


def draw_clouds(clouds: Mapping[str, Cloud], classes: tuple[str, ...], seed: int) -> Picture:
    """Draw clouds side by side, principal components above, t-SNE below.

    Args:
        clouds: By the title of their column.
        classes: Names of the classes.
        seed: Of t-SNE and of the order in which points are drawn.
    """
    size = (max(0.35 * WIDTH, min(WIDTH, 2.4 * len(clouds))), 0.35 + 2 * min(2.2, WIDTH / len(clouds)))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(2, len(clouds), squeeze=False)
    names = [f"class {name}" if name.isdecimal() else name for name in classes]
    looks: list[dict[str, Any]] = [
        {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]} for i in range(len(names))
    ]
    handles = [Line2D([], [], label=name, linestyle="", **look) for name, look in zip(names, looks, strict=True)]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(names))
    rows: list[tuple[object, ...]] = [("checkpoint", "projection", "row", "class", "x", "y", "silhouette")]
    for column, (title, cloud) in enumerate(clouds.items()):
        apart = separation(cloud)
        for axis, (kind, points) in zip(axes[:, column], projections(cloud, seed).items(), strict=True):
            scatter(axis, points, cloud.label, looks, seed)
            rows += [
                (title, kind, row, classes[own], float(x), float(y), apart)
                for row, (own, (x, y)) in enumerate(zip(cloud.label, points, strict=True))
            ]
        axes[0, column].set_title(f"{title}\nsilhouette {apart:.2f}")
    for axis, kind in zip(axes[:, 0], ("principal components", "t-SNE"), strict=True):
        axis.set_ylabel(kind)
    return figure, rows


def projections(cloud: Cloud, seed: int) -> dict[str, NDArray[np.float32]]:
    """Project a cloud to the plane, (N, 2), in two ways."""
    vectors, most = cloud.vectors, min(COMPONENTS, *cloud.vectors.shape)
    components = PCA(most, random_state=seed).fit_transform(vectors)
    perplexity = min(30.0, (len(vectors) - 1) / 3)
    nearby = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(components)
    return {"pca": components[:, :2], "t-sne": nearby}


def separation(cloud: Cloud) -> float:
    """Give the mean silhouette of the classes, by cosine; 0 if there is but one."""
    if not 1 < len(np.unique(cloud.label)) < len(cloud.label):
        return 0.0
    return float(silhouette_score(cloud.vectors, cloud.label, metric="cosine"))


def scatter(
    axis: Axes, points: NDArray[np.float32], label: NDArray[np.int64], looks: list[dict[str, Any]], seed: int
) -> None:
    """Draw points (N, 2), those of all classes in turn, so that none hides the others."""
    for part in np.array_split(np.random.default_rng(seed).permutation(len(points)), 8):
        for number, look in enumerate(looks):
            mine = part[label[part] == number]
            axis.scatter(points[mine, 0], points[mine, 1], s=6, alpha=0.6, linewidths=0, **look)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(True)
    axis.spines[:].set_color("0.8")


def write_projector(log_dir: Path, cloud: Cloud, classes: tuple[str, ...], tag: str, step: int) -> None:
    """Give a cloud to TensorBoard's projector, with the names of its classes, in place of one of the same name."""
    folder, config = f"{step:05d}/{tag}", log_dir / "projector_config.pbtxt"
    shutil.rmtree(log_dir / folder, ignore_errors=True)
    known = config.read_text(encoding="utf-8") if config.is_file() else ""
    with SummaryWriter(str(log_dir), filename_suffix=".projector") as board:
        board.add_embedding(cloud.vectors, metadata=[classes[own] for own in cloud.label], tag=tag, global_step=step)
    for events in log_dir.glob("events.*.projector"):
        events.unlink()  # it holds nothing
    try:
        others = text_format.Parse(known, ProjectorConfig()).embeddings  # a new writer knows none of them
    except text_format.ParseError:
        others = []  # damaged: its vectors are still there, and can be drawn anew
    kept = [text_format.MessageToString(ProjectorConfig(embeddings=[each])) for each in others]
    added = config.read_text(encoding="utf-8")
    write_text(config, "".join(text for text in kept if f'"{folder}/' not in text) + added)
