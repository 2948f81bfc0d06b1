"""Tests of which teacher layer each student layer follows."""

import pytest

from fine_tune.layer_map import describe_layer_map, layer_map, uniform_layer_map


@pytest.mark.parametrize(
    ("teacher", "student", "users"),
    [
        (12, 6, [2, 4, 6, 8, 10, 12]), (6, 3, [2, 4, 6]), (12, 4, [3, 6, 9, 12]), (24, 6, [4, 8, 12, 16, 20, 24]),
        (12, 5, [2, 4, 6, 8, 10]), (4, 4, [1, 2, 3, 4]), (4, 3, [1, 2, 3]), (4, 1, [4]), (1, 1, [1]),
    ],
)  # fmt: skip
def test_student_layer_l_follows_teacher_layer_l_times_k(teacher, student, users):
    assert [layer + 1 for layer in uniform_layer_map(teacher, student)] == users


@pytest.mark.parametrize("make", [uniform_layer_map, layer_map])
@pytest.mark.parametrize("student", [0, -1, 5])
def test_a_student_deeper_than_its_teacher_is_refused(make, student):
    with pytest.raises(ValueError, match=rf"--num_hidden_layers must be in 1\.\.4 .* got {student}"):
        make(4, student)


def test_first_map_takes_the_lowest_layers():
    assert layer_map(12, 3, "first") == [0, 1, 2]


def test_a_map_is_written_the_way_users_count():
    assert describe_layer_map([1, 3, 5]) == "1<-2  2<-4  3<-6"
