"""How a run starts: `resolve` its flags, `prepare` what it reads, build what it trains, `start` the session.

Each step returns what the next ones need; no flag changes afterwards. The student comes before what makes its
targets, so that its random start does not depend on them, and before `open_teacher`, which casts the frozen teacher's
matrices to the run's precision.
"""

import dataclasses
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple, cast

import torch
from torch import nn

from fine_tune.data.batches import SHUFFLED, Deal, batch_tokens, row_ids, trial_updates, updates_of
from fine_tune.data.tokens import Split, load_labelled
from fine_tune.files import digest
from fine_tune.flags.parser import Flags
from fine_tune.flags.shared import (
    EpochConfig,
    OptimConfig,
    OutputsConfig,
    Pace,
    PrecisionConfig,
    RunConfig,
    SpeedConfig,
    StepConfig,
    StudentConfig,
    TeacherPlace,
    TeacherRef,
)
from fine_tune.hardware import rank
from fine_tune.hardware.device import Devices, device_number, home_device, resolve_device
from fine_tune.hardware.precision import resolve_precision
from fine_tune.hardware.seed import own_dropout
from fine_tune.layer_map import LayerMap, written
from fine_tune.model.classifier import Classifier
from fine_tune.model.load import Loaded, check_segments
from fine_tune.model.part import TrainedPart
from fine_tune.model.placement import place
from fine_tune.model.projection import without_projection
from fine_tune.model.student import Origin, matched_to, new_student
from fine_tune.path import log_dir
from fine_tune.run import memory, preflight
from fine_tune.run.dry_run import WARM_UP, DryRun
from fine_tune.run.duration import settled_duration, settled_part_duration, warn_of_warmup
from fine_tune.run.folder import Contents, check_free, open_folder
from fine_tune.run.optim import Part, Updater
from fine_tune.run.process import print_table, set_up_process
from fine_tune.run.session import Session, Watch, Work
from fine_tune.run.source import Settings, Source, read_teacher
from fine_tune.run.state import Snapshot
from fine_tune.tasks.named import task_named
from fine_tune.tasks.own import TASK_JSON, to_json
from fine_tune.tasks.table import AUGMENTED, Task
from fine_tune.teacher.cache import live_or_cached
from fine_tune.teacher.live import LiveTeacher
from fine_tune.teacher.protocol import Needs, Teacher

logger = logging.getLogger(__name__)


def resolve(flags: Flags) -> Settings:
    """Settle what flags and this machine decide: task, devices, precision.

    Raises:
        ValueError: Flags that contradict each other or the machine.
    """
    cfg, precision = flags[RunConfig], flags[PrecisionConfig]
    place = flags.get(OutputsConfig) or flags.get(TeacherPlace)
    tdevice_id = place.tdevice_id if place else None
    own = {prefix: flags.values().get(f"{prefix}device_id") for prefix in flags.parts}
    # run_fine_tune.py has another spelling of --device_id.
    typed = "--num_gpu" if any(word.partition("=")[0] == "--num_gpu" for word in flags.command) else "--device_id"
    home = home_device(cfg.device_id, tdevice_id, *own.values(), flag=typed)
    parts = {
        prefix: home if number is None else resolve_device(number, f"--{prefix}device_id")
        for prefix, number in own.items()
    }
    teacher = home if tdevice_id is None else resolve_device(tdevice_id, "--tdevice_id")
    devices = Devices(teacher, {"": home, **parts})
    chosen = resolve_precision(precision.precision, precision.amp, teacher, *devices.parts.values())
    return Settings(flags.replaced(dataclasses.replace(precision, precision=chosen)), task_named(cfg.task), devices)


class Prepared(NamedTuple):
    """What a run has read before it builds anything.

    Attributes:
        flags: With everything settled that the user left open.
        task: The task.
        devices: Where its models will be.
        source: Where its tokens and sizes come from.
        rows: The rows to train on.
        teacher_rows: The same as the teacher reads them; the same object where its tokens are the student's.
    """

    flags: Flags
    task: Task
    devices: Devices
    source: Source
    rows: Split
    teacher_rows: Split

    @property
    def teacher(self) -> Loaded:
        """The run's teacher."""
        assert self.source.teacher is not None
        return self.source.teacher

    @property
    def layers(self) -> tuple[int, int]:
        """L_t and L_s."""
        student_layers = self.flags[StudentConfig].num_hidden_layers
        assert student_layers is not None
        return self.teacher.model.num_layers, student_layers


def prepare(settings: Settings, read: Callable[[Settings], Source] = read_teacher) -> Prepared:
    """Read what a run needs, settle what follows from it, and check it.

    Args:
        settings: The resolved command.
        read: Reads where tokens and sizes come from; by default the teacher.

    Raises:
        ValueError: Something contradicts something else, or would make a wrong run, see `preflight`.
        OSError: Files that are not there, or that must not be replaced.
    """
    flags, task, devices = settings
    cfg = flags[RunConfig]
    set_up_process(cfg.seed, devices.student)
    ref = flags.get(TeacherRef)
    check_free(cfg, ref.folder(cfg.task) if ref else None)
    check_labels_asked(flags)
    source = read(settings)
    rows = teacher_rows = load_labelled(task, cfg.dataset, source.tokenizer, source.max_seq_len)
    if source.teacher:
        if source.teacher.tokenizer is not source.tokenizer:
            teacher_rows = load_labelled(task, cfg.dataset, source.teacher.tokenizer, source.teacher.max_seq_len)
            teacher_rows = rows if teacher_rows.key == rows.key else teacher_rows
        check_segments(source.teacher.model, teacher_rows)
    if source.model:
        check_segments(source.model, rows)
    steps, epochs = settled_duration(flags[StepConfig], flags[EpochConfig], len(rows), cfg.batch_size)
    parts = {
        prefix: own.replaced(settled_part_duration(own[StepConfig], steps, epochs))
        for prefix, own in flags.parts.items()
    }
    flags = flags.replaced(*source.settled, steps, epochs, **parts)
    if cfg.preflight:
        with preflight.way_out():
            for prefix, own in {"": flags, **parts}.items():
                preflight.check_schedule(own[StepConfig], prefix)
            preflight.check_rows(rows, source.tokenizer)
            source.check(teacher_rows)
    else:
        for prefix, own in {"": flags, **parts}.items():
            warn_of_warmup(own[StepConfig], prefix)
    return Prepared(flags, task, devices, source, rows, teacher_rows)


def check_labels_asked(flags: Flags) -> None:
    """Refuse to learn gold labels from rows that have none: a group of flags says so of its method.

    Raises:
        ValueError: They would be asked for.
    """
    if flags[RunConfig].dataset != AUGMENTED:
        return
    asked = [group.asks_for_gold() for group in flags.groups() if hasattr(group, "asks_for_gold")]
    if not asked:
        raise ValueError(f"--dataset {AUGMENTED}: its rows have no gold labels, which {flags.method} learns")
    if cure := " ".join(filter(None, asked)):
        raise ValueError(f"--dataset {AUGMENTED}: its rows have no gold labels; give {cure}")


def build_student(run: Prepared, matched: bool = True, named: LayerMap | None = None) -> tuple[TrainedPart, Origin]:
    """Build the student of the run's teacher.

    Args:
        run: The run.
        matched: Its hidden states are compared with the teacher's: of another width, they are projected.
        named: Student layers that start from teacher layers of the user's choice.

    Returns:
        The student, and where the weights of its parts come from.

    Raises:
        ValueError: Weights that cannot be copied, or a student larger than its teacher.
    """
    assert run.teacher.model.linear_layer.weight.dtype == torch.float32, "build the student before open_teacher"
    classifier, origin = new_student(
        run.flags[StudentConfig], run.teacher, named, run.flags[RunConfig].model, run.source.tokenizer
    )
    check_segments(classifier, run.rows, "--type_vocab_size")
    if run.flags[RunConfig].preflight:
        with preflight.way_out():
            preflight.check_size(run.teacher.model, classifier)
    if not matched:
        return classifier, origin
    student, projection = matched_to(classifier, run.teacher.model.width)
    return student, origin | projection


def open_teacher(run: Prepared, needs: Needs) -> Teacher:
    """Put the teacher in its place, or read its outputs from a cache; warn of layers that teach nobody.

    Raises:
        ValueError: The cache asked for does not fit the method, the budget or the disk.
    """
    if needs.level == "states" and run.teacher_rows is not run.rows:
        raise ValueError(
            f"--tokenizer: {run.flags.method} matches all tokens, and the student's are not the teacher's; leave the "
            "flag out, or take a method that matches [CLS] or logits"
        )
    model = run.teacher.model
    place(model, run.devices.teacher, run.flags)
    top = max(needs.layers, default=-1)
    unread = set(range(model.num_layers)) - set(needs.layers) if needs.every else range(top + 1, model.num_layers)
    if unread and (needs.every or needs.level == "states"):
        logger.warning("teacher layers that teach nobody: %s", ", ".join(str(layer + 1) for layer in sorted(unread)))
    return live_or_cached(run.teacher, run.devices, run.teacher_rows, needs, run.flags)


def start(
    run: Prepared,
    modules: Mapping[str, TrainedPart],
    teacher: Teacher | None = None,
    *,
    origin: Origin | None = None,
    layer_map: LayerMap | None = None,
    watch: Watch | None = None,
    deal: Deal = SHUFFLED,
    staged: bool = False,
) -> Session:
    """Put what is trained in its place, create the run's folder, tell the user, open the session.

    Args:
        run: What was read.
        modules: The parts to train, by the prefix of their flags; "" is the student.
        teacher: The teacher, told of each update beforehand.
        origin: Where the student's weights come from, for the user.
        layer_map: The teacher layer that each student layer follows, if the method has such a map.
        watch: What the method wants watched.
        deal: The order of the rows, and what they are contrasted with.
        staged: Whether some parameters learn nothing in some updates.

    Raises:
        ValueError: The run does not fit on the disk, or continues with other things than it began with.
        OSError: The folder is not free.
    """
    flags, cfg, total = run.flags, run.flags[RunConfig], run.flags[StepConfig].total_step
    assert total is not None
    for prefix, module in modules.items():
        place(module, run.devices.parts[prefix], flags)
    updater = Updater(
        {prefix: new_part(run, prefix, module) for prefix, module in modules.items()},
        half=flags[PrecisionConfig].precision == "fp16",
    )
    if cfg.preflight:
        with preflight.way_out():
            preflight.check_disk(cfg, flags[Pace], total, modules.values())
            preflight.check_memory(expected_memory(run, modules, teacher, deal), run.devices.student)
    other = None if run.teacher_rows is run.rows else run.teacher_rows
    batches = partial(updates_of, cfg, run.rows, teacher=other, deal=deal)
    locate = partial(row_ids, cfg, run.rows, deal=deal)
    work = Work(modules, run.devices.parts, updater, batches, teacher, watch, locate, staged)
    values = needed_by_readers(run, modules[""]) | flags.values() | {"method": flags.method}
    if layer_map:
        values["layer_map"] = written(layer_map)
    beside = {prefix: part_config(run, prefix, module) for prefix, module in modules.items() if prefix}
    session = open_session(run, work, {"": values, **beside}, total, deal)
    print_table(f"Run: {flags.method}", values | {"rows": len(run.rows), "devices": run.devices.names()})
    for prefix, config in beside.items():
        print_table(f"Part: {prefix.rstrip('_')}", config)
    learns = {
        f"layer {student + 1}": f"learns teacher layer {layer + 1}" for student, layer in (layer_map or {}).items()
    }
    parts = {name: f"{text:<22} {learns.get(name, '')}".rstrip() for name, text in (origin or {}).items()}
    if told := parts | {name: text for name, text in learns.items() if name not in parts}:
        print_table("Student" if learns or run.source.teacher else "Model", told)
    return session


def open_session(
    run: Prepared, work: Work, configs: Mapping[str, dict[str, object]], total_step: int, deal: Deal
) -> Session:
    """Create a run's folder, or find that of a run that continues; open its session. `--dry_run` creates nothing."""
    cfg, pace, modules = run.flags[RunConfig], run.flags[Pace], work.modules
    if cfg.dry_run:
        size = preflight.disk_use(pace, total_step, modules.values()) / 1e9
        facts = {"rows": len(run.rows), "tokens": int(run.rows.offsets[-1]), "disk": f"at most {size:.2f} GB"}
        expected = memory.taken(run.devices.student) + expected_memory(run, modules, work.teacher, deal)
        facts["memory, expected"] = f"{expected / 1e9:.2f} GB"
        tokens = batch_tokens(cfg, run.rows, total_step, deal)
        tried = work._replace(batches=lambda done: trial_updates(work.batches, tokens, WARM_UP - 1))  # in every stage
        return DryRun(tried, cfg.folder, total_step, facts)
    own_dropout(cfg.seed)
    made_from = {name: digest(file) for name, file in run.source.made_from.items()} | {"data": run.rows.key}
    model = cast(Classifier, without_projection(modules[""]))
    files = {f"{prefix}config.json": values for prefix, values in configs.items()}
    files |= {TASK_JSON: to_json(run.task)} if run.task.files else {}
    contents = Contents(
        files, model, run.source.tokenizer, run.devices.names(), run.task.labels, run.flags.command, made_from
    )
    open_folder(cfg, contents)
    board = log_dir(cfg.experiment, cfg.model, cfg.task)
    return Session(work, cfg.folder, board, pace, total_step, Snapshot(cfg.folder, modules.values(), work.updater))


def expected_memory(run: Prepared, modules: Mapping[str, TrainedPart], teacher: Teacher | None, deal: Deal) -> int:
    """Estimate the bytes that a run will take on the student's device beyond what it has."""
    cfg, home, total = run.flags[RunConfig], run.devices.student, run.flags[StepConfig].total_step
    assert total is not None
    tokens = -(-batch_tokens(cfg, run.rows, total, deal) // (cfg.accum_step * rank.world_size()))
    here = [module for prefix, module in modules.items() if run.devices.parts[prefix] == home]
    runs = isinstance(teacher, LiveTeacher) and run.devices.teacher == home
    return memory.needed(here, run.teacher.model if runs else None, tokens, run.flags)


def needed_by_readers(run: Prepared, student: TrainedPart) -> dict[str, object]:
    """Give what `load_config` asks of every run, for scripts that have no flags of it."""
    dropout = cast(Classifier, without_projection(student)).dropout.p
    return {"num_class": run.task.num_class, "max_seq_len": run.source.max_seq_len, "dropout": dropout}


def new_part(run: Prepared, prefix: str, module: TrainedPart) -> Part:
    """Give a part its optimiser, with the settings and the duration of its own flags."""
    flags = run.flags.parts.get(prefix, run.flags)
    steps, lazy = flags[StepConfig], None
    assert steps.total_step is not None and steps.warmup_step is not None
    classifier, alone = without_projection(module), rank.world_size() == 1
    on_cpu = run.devices.parts[prefix].type == "cpu"
    if isinstance(classifier, Classifier) and on_cpu and alone and run.flags[SpeedConfig].lazy_embedding:
        words = cast(nn.Embedding, classifier.encoder.get_input_embeddings())
        lazy = words if words.weight.requires_grad else None
    return Part(module.clipped(), flags[OptimConfig], steps.total_step, steps.warmup_step, lazy)


def part_config(run: Prepared, prefix: str, module: TrainedPart) -> dict[str, object]:
    """Give what a part's own configuration file holds: its flags, its device, its shape."""
    device_id = device_number(run.devices.parts[prefix])
    return run.flags.parts[prefix].values() | {"device_id": device_id} | module.facts()
