"""A toy method, all of it: gold labels, and the student's mean last state learns the teacher's (test_new_method.py)."""

from fine_tune.flags.parser import usage_errors
from fine_tune.flags.shared import OutputsConfig
from fine_tune.train.methods import HIDDEN, METHODS, HiddenConfig, Method, method_parser

METHODS["toy"] = Method("toy", "toy_method", (*HIDDEN, OutputsConfig))


def train_toy(session, teacher, student, weights):
    """Distil a teacher into a student by the mean of their last states."""
    import torch

    student.train()
    for update in session.updates():
        for batch in update:
            t, s = teacher(batch), student(**batch.student)
            hidden = (s.hidden_states[-1].mean(1) - t.states[max(t.states)].float().mean(1)).square().mean()
            hard = torch.nn.functional.cross_entropy(s.logits, batch.label)
            loss = weights.hard_weight * hard + weights.hidden_mse_weight * hidden
            session.backward(loss * batch.weight)
            session.add(batch.weight, loss=loss, hidden_loss=hidden)
        session.step()


def main(argv=None):
    """Wire and train."""
    parser = method_parser("toy_method", __doc__)
    args = parser.parse_args(argv)
    with usage_errors(parser):
        flags = parser.flags(args)
        from fine_tune.run.start import build_student, open_teacher, prepare, resolve, start
        from fine_tune.teacher.protocol import Needs

        run = prepare(resolve(flags))
        student, origin = build_student(run)
        teacher = open_teacher(run, Needs("states", (run.layers[0] - 1,)))
        session = start(run, {"": student}, teacher, origin=origin)
    with session:
        train_toy(session, teacher, session.models[""], flags[HiddenConfig])


if __name__ == "__main__":
    main()
