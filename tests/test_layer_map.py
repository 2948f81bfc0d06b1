"""Tests of which teacher layer each student layer follows, as words, as pairs, and as two lists."""

import pytest

from fine_tune.layer_map import layer_map, layer_numbers, paired, uniform_layer_map, written


def users(mapping: dict[int, int]) -> list[int]:
    """The 1-based teacher layers of student layers 1, 2, .., all of which must follow one."""
    assert list(mapping) == list(range(len(mapping)))
    return [teacher + 1 for teacher in mapping.values()]


UNIFORM = [
    (12, 6, [2, 4, 6, 8, 10, 12]), (6, 3, [2, 4, 6]), (12, 4, [3, 6, 9, 12]), (24, 6, [4, 8, 12, 16, 20, 24]),
    (12, 5, [2, 4, 6, 8, 10]), (4, 4, [1, 2, 3, 4]), (4, 3, [1, 2, 3]), (4, 1, [4]), (1, 1, [1]),
]  # fmt: skip


@pytest.mark.parametrize(("teacher", "student", "want"), UNIFORM)
def test_student_layer_l_follows_teacher_layer_l_times_k(teacher, student, want):
    assert users(uniform_layer_map(teacher, student)) == want
    assert layer_map("even", teacher, student) == uniform_layer_map(teacher, student)


@pytest.mark.parametrize("make", [uniform_layer_map, *(lambda t, s, word=w: layer_map(word, t, s) for w in
                                                       ("even", "first", "last"))])  # fmt: skip
@pytest.mark.parametrize("student", [0, -1, 5])
def test_a_student_deeper_than_its_teacher_is_refused(make, student):
    with pytest.raises(ValueError, match=rf"--num_hidden_layers must be in 1\.\.4 .* got {student}"):
        make(4, student)


@pytest.mark.parametrize(
    ("word", "teacher", "student", "want"),
    [
        ("first", 12, 3, [1, 2, 3]), ("first", 4, 4, [1, 2, 3, 4]), ("last", 12, 6, [7, 8, 9, 10, 11, 12]),
        ("last", 12, 5, [8, 9, 10, 11, 12]), ("last", 4, 1, [4]), ("last", 24, 2, [23, 24]),
    ],
)  # fmt: skip
def test_first_and_last_take_neighbouring_layers(word, teacher, student, want):
    assert users(layer_map(word, teacher, student)) == want


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("2:1,4:2", {0: 1, 1: 3}), ("4:2,2:1", {0: 1, 1: 3}), ("12:6", {5: 11}), (" 3 : 1 , 3:2", {0: 2, 1: 2}),
        ("12:1,1:6", {0: 11, 5: 0}), ("2:1,4:2,6:3,8:4,10:5,12:6", {n: 2 * n + 1 for n in range(6)}),
    ],
)  # fmt: skip
def test_pairs_are_teacher_and_student_layers_counted_from_one(text, want):
    got = layer_map(text, 12, 6)
    assert got == want and list(got) == sorted(want)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0:1", r"no teacher layer 0; they are 1\.\.4"), ("5:1", r"no teacher layer 5; they are 1\.\.4"),
        ("2:0", r"no student layer 0; they are 1\.\.2"), ("2:3", r"no student layer 3; they are 1\.\.2"),
        ("2:1,4:1", r"a student layer is named twice; each of 1\.\.2"), ("2", r"nor pairs .* of 1\.\.4 and 1\.\.2"),
        ("2:1:1", "nor pairs"), ("", "nor pairs"), ("2:1,", "nor pairs"), ("-2:1", "nor pairs"),
        ("a:b", "nor pairs"), ("2.0:1", "nor pairs"), ("uniform", "neither even, first, last nor pairs"),
        ("Even", "neither even"), ("²:1", "nor pairs"),
    ],
)  # fmt: skip
def test_a_map_that_does_not_fit_is_refused_with_what_would(text, reason):
    with pytest.raises(ValueError, match=f"--layer_map .*{reason}"):
        layer_map(text, 4, 2)


def test_a_map_is_written_as_it_is_read():
    assert written({0: 1, 1: 3, 2: 5}) == "2:1,4:2,6:3"
    for text in ("2:1,4:2", "4:2", "1:1,1:2"):
        assert written(layer_map(text, 4, 2)) == text
    assert written(layer_map("even", 12, 6)) == "2:1,4:2,6:3,8:4,10:5,12:6"


def test_two_lists_make_a_map():
    """The document's `--teacher_indices 12,10,8,6,4 --student_indices 6,5,4,3,2`."""
    assert paired("--x", "12,10,8,6,4", "6,5,4,3,2", 12, 6) == {1: 3, 2: 5, 3: 7, 4: 9, 5: 11}
    assert list(paired("--x", "4,2", "2,1", 4, 2).items()) == [(0, 1), (1, 3)]
    assert paired("--x", "4,2", None, 4, 3) == {0: 3, 1: 1}
    assert paired("--x", "3,3", "1,2", 4, 2) == {0: 2, 1: 2}


@pytest.mark.parametrize(
    ("teacher", "student", "reason"),
    [
        ("2,4", "1", "--x 2,4 names 2 layers, --student_indices 1 1: give as many"),
        ("2", "1,2", "--x 2 names 1 layers, --student_indices 1,2 2"),
        ("2,4,3", None, "--x 2,4,3 names 3 layers for a student of 2"),
        ("2,5", "1,2", r"--x 2,5: there is no teacher layer 5; they are 1\.\.4"),
        ("0,4", "1,2", r"--x 0,4: there is no teacher layer 0; they are 1\.\.4"),
        ("2,4", "1,3", r"--student_indices 1,3: there is no student layer 3; they are 1\.\.2"),
        ("2,4", "0,1", r"--student_indices 0,1: there is no student layer 0; they are 1\.\.2"),
        ("2,4", "1,1", "--student_indices 1,1: a student layer is named twice"),
        ("2,a", "1,2", r"--x '2,a': not a list of teacher layers such as 2,4,6; they are 1\.\.4"),
        ("2 4", "1,2", "--x '2 4': not a list of teacher layers"),
        ("", "1,2", "--x '': not a list of teacher layers"),
        ("2,4", "1;2", r"--student_indices '1;2': not a list of student layers .* they are 1\.\.2"),
        ("2,4", "", "--student_indices '': not a list of student layers"),
    ],
)
def test_lists_that_do_not_fit_are_refused_with_what_would(teacher, student, reason):
    with pytest.raises(ValueError, match=reason):
        paired("--x", teacher, student, 4, 2)


def test_a_list_of_layers_is_counted_from_one():
    assert layer_numbers("--x", "2, 4,6", "teacher", 6) == [1, 3, 5]
    assert layer_numbers("--x", "2,2", "teacher", 6) == [1, 1]
