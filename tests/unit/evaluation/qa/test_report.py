"""Accuracy, differences, counts; and the paper's table."""

import pytest

from groundserve.errors import InvalidRequestError
from groundserve.evaluation.qa.replies import Reply, Usage
from groundserve.evaluation.qa.report import MeasuredRun, make_paper_table, make_qa_report
from groundserve.evaluation.qa.run_folder import Answer
from tests.unit.evaluation.qa.questions import question

USAGE = Usage(prompt_tokens=1000, completion_tokens=10)


def answer(key, arm, text, *, usage=USAGE, is_refused=False, retries=()):
    reply = Reply(
        text=text, is_refused=is_refused, finish_reason="stop", usage=usage, retries=retries
    )
    return Answer(key=key, arm=arm, reply=reply, frame_indices=(0, 1))


def questions(num, **fields):
    return [question(str(number), video=f"v{number}", **fields) for number in range(num)]


def answers(arm, texts, **fields):
    return [answer(str(number), arm, text, **fields) for number, text in enumerate(texts)]


def test_a_difference_takes_what_both_answered():
    given = [*answers("uniform", "BB"), *answers("selected", "AAB")[1:]]
    report = make_qa_report(questions(4), given, arms=["uniform", "selected", "none"])
    assert report.differences["selected"].value == -1.0
    assert report.differences["selected"].num_questions == 1
    assert report.arms["uniform"].num_unanswered == 2
    assert report.arms["selected"].num_unanswered == 2
    assert report.num_left == 2 + 2 + 4


def test_groups_have_figures_of_their_own():
    asked = [question(str(n), video=f"v{n}", group="short" if n < 2 else "long") for n in range(4)]
    given = [*answers("uniform", "BBAA"), *answers("oracle", "BBBA")]
    report = make_qa_report(asked, given, arms=["uniform"])
    assert {group: it.value for group, it in report.arms["uniform"].by_group.items()} == {
        "short": 1.0,
        "long": 0.0,
    }
    assert report.differences_by_group["oracle"]["long"].value == 0.5


def run(layout, name, texts, *, arm="uniform", model="m", groups=(None,)):
    asked = [
        question(str(n), layout=layout, video=f"v{n}", group=groups[n % len(groups)])
        for n in range(len(texts))
    ]
    report = make_qa_report(asked, answers(arm, texts), arms=[arm])
    return MeasuredRun(
        parts={"layout": layout, "name": name, "model": model, "top_k": 8}, report=report
    )


def test_the_papers_table_has_a_column_a_benchmark_and_one_a_duration():
    table = make_paper_table(
        [
            run("cgbench", "CG-Bench", "BAAA"),
            run("videomme", "Video-MME", "BAB", groups=("short", "medium", "long")),
            run("longvideobench", "LongVideoBench", "BB"),
            run("longvideobench", "LongVideoBench", "AB", arm="selected"),
        ]
    )
    assert table.columns == (
        "LongVideoBench",
        "Video-MME short",
        "Video-MME medium",
        "Video-MME long",
        "CG-Bench",
    )
    uniform, selected = table.rows
    assert (uniform.arm, uniform.top_k) == ("uniform", 8)
    assert list(uniform.cells.values()) == [1.0, 1.0, 0.0, 1.0, 0.25]
    # As in the paper, over columns: each duration weighs as much as a benchmark.
    assert uniform.average == pytest.approx(3.25 / 5)
    assert selected.cells == {"LongVideoBench": 0.5}
    assert selected.average is None


def test_two_runs_of_one_cell_are_refused():
    with pytest.raises(InvalidRequestError, match="two runs have MLVU of m from 8 uniform frames"):
        make_paper_table([run("mlvu", "MLVU", "B"), run("mlvu", "MLVU", "A")])
