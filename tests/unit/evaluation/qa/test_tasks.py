"""What there is to ask, where videos cannot be read or scored."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from groundserve.errors import MediaError, UnavailableError
from groundserve.evaluation.qa import tasks
from groundserve.evaluation.qa.run_folder import RunFolder
from groundserve.evaluation.qa.selections import Selection
from groundserve.evaluation.qa.tasks import PictureOptions, Setup, open_tasks
from tests.unit.evaluation.qa.questions import question

QUESTIONS = [question(str(number), video=f"v{number}") for number in range(5)]


@pytest.fixture(autouse=True)
def videos(monkeypatch):
    """Of ten frames each, read without a file."""
    index = SimpleNamespace(num_source_frames=10, average_fps=1.0)
    monkeypatch.setattr(tasks, "_read_index", lambda workers, path: index)
    monkeypatch.setattr(
        tasks, "_read_pictures", lambda path, ordinals, options: {it: f"{it}" for it in ordinals}
    )


class Selector:
    """Selects frames 4 and 6, or says what is wrong with a video."""

    def __init__(self, wrong):
        self.wrong = wrong
        self.asked = []

    def select(self, video, prompts):
        self.asked.append(video.name)
        if video.name in self.wrong:
            raise self.wrong[video.name]
        return Selection(frame_indices=dict.fromkeys(prompts, (4, 6)), engine={"id": "e"})


def tasks_of(tmp_path, selector):
    setup = Setup(
        questions=QUESTIONS,
        videos={it.video: Path(it.video) for it in QUESTIONS},
        arms=["uniform", "selected"],
        num_frames=3,
        pictures=PictureOptions(),
        selector=selector,
    )
    failures = []
    with RunFolder(tmp_path, {}, QUESTIONS) as run:
        try:
            made = list(
                open_tasks(
                    setup,
                    run,
                    on_video=lambda *_: None,
                    on_failure=lambda *failure: failures.append(failure),
                )
            )
        except UnavailableError as error:
            made = error
    return made, failures


def test_a_scorer_that_is_gone_ends_the_run(tmp_path):
    selector = Selector({it.video: UnavailableError("no server") for it in QUESTIONS})
    made, failures = tasks_of(tmp_path, selector)
    assert isinstance(made, UnavailableError)
    assert (len(failures), selector.asked) == (3, ["v0", "v1", "v2"])


def test_what_was_selected_is_not_selected_again(tmp_path):
    first = Selector({"v2": MediaError("cut")})
    assert len(tasks_of(tmp_path, first)[0]) == 8
    again = Selector({})
    assert len(tasks_of(tmp_path, again)[0]) == 10
    assert again.asked == ["v2"]
