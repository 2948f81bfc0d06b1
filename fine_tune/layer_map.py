"""Which teacher layer each student layer follows.

A layer map is a list of 0-based teacher layers, one per student layer; users see and write 1-based numbers.
Source: Lin et al. 2023; released code. Departures: none.
"""


def uniform_layer_map(teacher_layers: int, student_layers: int) -> list[int]:
    """Map student layer l to teacher layer l * k, k = teacher_layers // student_layers.

    For 12 -> 6 layers this is [1, 3, 5, 7, 9, 11], the user's 2, 4, .., 12.

    Raises:
        ValueError: The student has more layers than the teacher.
    """
    if not 1 <= student_layers <= teacher_layers:
        raise ValueError(f"--num_hidden_layers must be in 1..{teacher_layers} (the teacher's), got {student_layers}")
    stride = teacher_layers // student_layers
    return [stride * (layer + 1) - 1 for layer in range(student_layers)]


def layer_map(teacher_layers: int, student_layers: int, strategy: str = "even") -> list[int]:
    """Choose a teacher layer for each student layer: `even`, see `uniform_layer_map`, or `first`, [0, 1, ..].

    Raises:
        ValueError: The student has more layers than the teacher.
    """
    even = uniform_layer_map(teacher_layers, student_layers)
    return even if strategy == "even" else list(range(student_layers))


def describe_layer_map(mapping: list[int]) -> str:
    """Write a map the way users count: `1<-2  2<-4  3<-6` (student<-teacher)."""
    return "  ".join(f"{student}<-{teacher + 1}" for student, teacher in enumerate(mapping, start=1))
