"""Which teacher layer each student layer follows.

A layer map is a dictionary from student layers to teacher layers, both 0-based, in the order of the student's layers;
users see and write 1-based pairs `teacher:student`. A student layer that is not in it follows none.
Source: Lin et al. 2023; released code. Departures: none; the words and the pairs are additions.
"""

from collections.abc import Sequence

LayerMap = dict[int, int]
STRATEGIES = ("even", "first", "last")


def uniform_layer_map(teacher_layers: int, student_layers: int) -> LayerMap:
    """Map student layer l to teacher layer l * k, k = teacher_layers // student_layers.

    For 12 -> 6 layers the user's 2, 4, .., 12.

    Raises:
        ValueError: The student has more layers than the teacher.
    """
    return layer_map("even", teacher_layers, student_layers)


def layer_map(text: str | None, teacher_layers: int, student_layers: int) -> LayerMap:
    """Read a map as users write it: `even` (every k-th layer; None), `first`, `last`, or pairs such as `2:1,4:2`.

    Raises:
        ValueError: It is neither, or a layer does not exist or is named twice; the message gives the valid range.
    """
    text = "even" if text is None else text
    if text in STRATEGIES:
        if not 1 <= student_layers <= teacher_layers:
            raise ValueError(
                f"--num_hidden_layers must be in 1..{teacher_layers} (the teacher's), got {student_layers}"
            )
        stride = teacher_layers // student_layers
        first, step = {"even": (stride - 1, stride), "first": (0, 1), "last": (teacher_layers - student_layers, 1)}[
            text
        ]
        return {layer: first + step * layer for layer in range(student_layers)}
    pairs = [pair.split(":") for pair in text.split(",")]
    if any(len(pair) != 2 or not all(number.strip().isdecimal() for number in pair) for pair in pairs):
        raise ValueError(
            f"--layer_map {text!r}: neither {', '.join(STRATEGIES)} nor pairs teacher:student such as 2:1,4:2, of "
            f"1..{teacher_layers} and 1..{student_layers}"
        )
    taught, learning = zip(*((int(teacher), int(student)) for teacher, student in pairs), strict=True)
    check_layers("--layer_map", text, "teacher", taught, teacher_layers)
    check_layers("--layer_map", text, "student", learning, student_layers)
    return {student - 1: teacher - 1 for student, teacher in sorted(zip(learning, taught, strict=True))}


def paired(flag: str, teacher: str, student: str | None, teacher_layers: int, student_layers: int) -> LayerMap:
    """Read a map written as two lists of the same length, such as `12,10,8` and `6,5,4`.

    Args:
        flag: The flag of the first list.
        teacher: 1-based teacher layers.
        student: 1-based student layers, `--student_indices`; None for 1, 2, ..
        teacher_layers: L_t.
        student_layers: L_s.

    Raises:
        ValueError: The lists differ in length, or see `layer_numbers`.
    """
    taught = layer_numbers(flag, teacher, "teacher", teacher_layers)
    if student is None and len(taught) > student_layers:
        raise ValueError(f"{flag} {teacher} names {len(taught)} layers for a student of {student_layers}")
    counted = ",".join(str(number + 1) for number in range(len(taught)))
    learning = layer_numbers("--student_indices", counted if student is None else student, "student", student_layers)
    if len(taught) != len(learning):
        raise ValueError(
            f"{flag} {teacher} names {len(taught)} layers, --student_indices {student} {len(learning)}: give as many"
        )
    return dict(sorted(zip(learning, taught, strict=True)))


def layer_numbers(flag: str, text: str, whose: str, layers: int) -> list[int]:
    """Read a comma-separated list of 1-based layers; give them 0-based.

    Raises:
        ValueError: It is no such list, or a layer does not exist or, of a student, is named twice.
    """
    words = text.split(",")
    if not all(word.strip().isdecimal() for word in words):
        raise ValueError(f"{flag} {text!r}: not a list of {whose} layers such as 2,4,6; they are 1..{layers}")
    numbers = [int(word) for word in words]
    check_layers(flag, text, whose, numbers, layers)
    return [number - 1 for number in numbers]


def check_layers(flag: str, text: str, whose: str, numbers: Sequence[int], layers: int) -> None:
    """Refuse 1-based layers that a model does not have; a student layer cannot follow two teacher layers.

    Raises:
        ValueError: There are such.
    """
    if outside := [number for number in numbers if not 1 <= number <= layers]:
        raise ValueError(f"{flag} {text}: there is no {whose} layer {outside[0]}; they are 1..{layers}")
    if whose == "student" and len(set(numbers)) < len(numbers):
        raise ValueError(f"{flag} {text}: a student layer is named twice; each of 1..{layers} learns from one layer")


def written(mapping: LayerMap) -> str:
    """Write a map as `layer_map` reads it: `2:1,4:2,6:3`."""
    return ",".join(f"{teacher + 1}:{student + 1}" for student, teacher in mapping.items())
