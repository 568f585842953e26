"""`groundserve eval` through its entry point, in this process."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest

from groundserve.scoring.shipped import SHIPPED_CHECKPOINT
from tests.cli.command import run_cli
from tests.cli.steps import assert_one_error

CHECKPOINT = str(SHIPPED_CHECKPOINT)
SECONDS, FPS, SIDE = 6, 4, 64


def write_video(path: Path, *, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width = stream.height = SIDE
        stream.pix_fmt = "yuv420p"
        for _ in range(SECONDS * FPS):
            picture = np.full((SIDE, SIDE, 3), rng.integers(0, 256, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())


def records_of(video: str) -> list[dict[str, object]]:
    def record(kind: str, question: str, frame_num: list[int]) -> dict[str, object]:
        return {
            "id": f"{video} {question}",
            "video": video,
            "question": f"<image>\n{question}",
            "answer": "",
            "frame_num": frame_num,
            "clip_num": sorted({i // 5 for i in frame_num}),
            "motion": "No",
            "existence": "No" if frame_num else "Yes",
            "type": kind,
        }

    return [
        record("semantic", f"What is {video}?", [1, 2]),
        record("motion", "What moves?", [5]),
        record("motion", "What stands?", []),
    ]


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """Three videos, and a file of three records about each."""
    root = tmp_path_factory.mktemp("media")
    names = [f"videos/{number}.mp4" for number in range(3)]
    for seed, name in enumerate(names):
        write_video(root / name, seed=seed)
    records = [record for name in names for record in records_of(name)]
    (root / "records.json").write_text(json.dumps(records), "utf-8")
    return root


@pytest.fixture
def run():
    """The command; gives its exit code and what it wrote."""
    return partial(run_cli, "eval")


def test_records_give_every_figure_as_json(run, media, tmp_path):
    jsonl = tmp_path / "scored.jsonl"
    code, out, err = run(
        *("--records", media / "records.json", "--media-root", media),
        *("--checkpoint", CHECKPOINT, "--top-k", 2, "--seed", 5, "--json"),
        *("--jsonl", jsonl, "--sampling", "infer"),
    )
    assert code == 0, err
    assert "trained on moving handwritten digits" in err
    value = json.loads(out.splitlines()[-1])
    assert value["source"]["kind"] == "records"
    assert value["sampling"] == {"rule": "infer", "sample_fps": 1.0}
    assert value["num_left_out"] == 0
    assert value["engine"]["profile"] == "torch"
    assert value["downstream"] is None
    report = value["report"]
    assert (report["seed"], report["top_k"]) == (5, 2)
    overall = report["overall"]
    assert (overall["num_present"], overall["num_absent"]) == (6, 3)
    assert overall["base_rate"]["value"] == pytest.approx((2 / 6 + 1 / 6) / 2)
    assert overall["random_recall"]["value"] == pytest.approx(2 / 6)
    assert overall["absent_auc"]["num_questions"] == 9
    assert overall["frame_ap"]["num_videos"] == 3
    assert set(report["by_type"]) == {"semantic", "motion"}
    control = value["control"]
    assert control["overall"]["shuffled_ap"]["num_questions"] == 6
    gain = overall["frame_ap"]["value"] - control["overall"]["shuffled_ap"]["value"]
    assert control["overall"]["ap_over_shuffled"]["value"] == pytest.approx(gain)
    lines = [json.loads(line) for line in jsonl.read_text("utf-8").splitlines()]
    assert [line["doc_id"] for line in lines] == list(range(9))
    assert all(sorted(line["index"]) == list(range(0, 24, FPS)) for line in lines)
    assert lines[0]["contexts"] == "What is videos/0.mp4?"


def test_a_fresh_moving_digits_set_is_drawn_and_kept(run, monkeypatch, tmp_path):
    asked = {}

    def downstream_report(records_path, *, checkpoint, scored, num_selected, seed):
        asked.update(
            records=json.loads(Path(records_path).read_text("utf-8")),
            checkpoint=checkpoint,
            videos={question.video for question in scored},
            given=(num_selected, seed),
        )
        one = {"value": 0.5, "low": 0.25, "high": None}
        return {
            "num_questions": 2,
            "num_selected": num_selected,
            "accuracy": {"selected": {**one, "high": 0.75}, "uniform": {**one, "low": None}},
            "gain_over_uniform": {**one, "high": 0.75},
        }

    monkeypatch.setattr("train.digits.downstream.downstream_report", downstream_report)
    keep = tmp_path / "digits"
    digits = ("--num-videos", 2, "--num-frames", 8, "--seed", 3, "--keep", keep)
    code, out, err = run(*digits, "--checkpoint", CHECKPOINT)
    assert code == 0, err
    assert asked["checkpoint"] == CHECKPOINT
    assert asked["given"] == (8, 3)
    assert asked["videos"] == {record["video"] for record in asked["records"]}
    assert (keep / "records.json").is_file()
    assert all((keep / video).is_file() for video in asked["videos"])
    for text in ("frame AP", "shuffled AP", "recall@8", "possible", "mIoU", "non_clues", "all"):
        assert text in out
    assert "downstream: 2 questions answered from 8 frames" in out
    assert "selected - uniform  +0.500  [0.250, 0.750]" in out
    assert max(map(len, out.splitlines())) <= 80

    code, _, err = run(*digits, "--checkpoint", CHECKPOINT)
    assert code == 2
    assert "--keep must name an empty or new folder" in " ".join(err.split())


def test_an_engine_directory_has_no_downstream_test(run, engine_dirs, monkeypatch):
    monkeypatch.delattr("train.digits.downstream.downstream_report")
    code, out, err = run(
        "--num-videos", 1, "--num-frames", 8, "--engines", engine_dirs["cpu"], "--json"
    )
    assert code == 0, err
    value = json.loads(out.splitlines()[-1])
    assert value["source"] == {
        "kind": "moving_digits",
        "version": value["source"]["version"],
        "split": "test",
        "seed": 0,
        "num_videos": 1,
        "num_frames": 8,
    }
    assert value["engine"]["profile"] == "cpu"
    assert value["downstream"] is None
    assert value["control"] is None  # one video has nobody to borrow from


@pytest.fixture
def qvhighlights(tmp_path):
    truth = {"qid": 1, "vid": "v", "duration": 8, "relevant_windows": [[0, 4]]}
    truth |= {"relevant_clip_ids": [0, 1], "saliency_scores": [[4, 4, 4], [2, 2, 2]]}
    predicted = {"qid": 1, "pred_relevant_windows": [[0, 3, 1]], "pred_saliency_scores": [4, 3]}
    paths = tmp_path / "pred.jsonl", tmp_path / "gt.jsonl"
    for path, line in zip(paths, (predicted, truth), strict=True):
        path.write_text(json.dumps(line) + "\n", "utf-8")
    return paths


@pytest.mark.parametrize("subcommand", [[], ["moments"]])
def test_qvhighlights_files_need_no_model(subcommand, run, qvhighlights):
    predictions, truth = qvhighlights
    files = (*subcommand, "--predictions", predictions, "--ground-truth", truth)
    code, out, _ = run(*files, "--json")
    assert code == 0
    value = json.loads(out)
    assert value["moment_r1_at_07"]["value"] == 1.0
    assert value["moment_map_at_075"]["value"] == 1.0
    assert value["moment_map"]["value"] == pytest.approx(0.6)
    assert value["highlight_hit_at_1_very_good"]["value"] == 1.0
    code, out, _ = run(*files)
    assert code == 0
    assert "moment mAP@0.75                 100.00" in out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--media-root", "{root}"], "--media-root needs --records"),
        (
            ["--records", "{records}", "--media-root", "{root}", "--num-videos", "3"],
            "--num-videos does not go with --records",
        ),
        (
            ["--predictions", "a", "--ground-truth", "b", "--records", "c", "--media-root", "d"],
            "--media-root does not go with --predictions",
        ),
        (
            ["--predictions", "a", "--ground-truth", "b", "--checkpoint", "c"],
            "--checkpoint does not go with --predictions",
        ),
        (["--checkpoint", "a", "--engines", "b"], "give one of --checkpoint and --engines"),
        (["--num-frames", "8", "--top-k", "9"], "top_k must be at most the 8 frames of a video"),
        (["--jsonl", "x.jsonl"], "which are not a benchmark's (rule B, at most 512)"),
        (["--sampling", "eval"], "sampling must be infer, whose frames the records' frame_num"),
        (["--records", "{records}", "--media-root", "{text}"], "--media-root must be a folder"),
        (["--seed", "1", "moments"], "--seed does not go before moments"),
        (["moments", "--predictions", "a", "--ground-truth", "b", "--seed", "-1"], "seed must be"),
    ],
)
def test_a_callers_error_is_one_line_and_exit_2(args, message, run, media):
    places = {"{records}": media / "records.json", "{root}": media, "{text}": __file__}
    code, out, err = run(*[places.get(arg, arg) for arg in args])
    assert (code, out) == (2, "")
    assert_one_error(err, message)


@pytest.mark.parametrize(
    ("records", "message"),
    [
        (
            json.dumps([*records_of("videos/0.mp4"), *records_of("videos/9.mp4")]),
            "1 of 2 videos are missing, the first is ",
        ),
        (
            json.dumps([{"video": "videos/0.mp4", "question": "?", "frame_num": [6]}]),
            "lies past the frames that its video gives",
        ),
        (
            json.dumps(
                [
                    {"video": "videos/0.mp4", "question": "When?", "frame_num": [25]},
                    {"video": "videos/0.mp4", "question": "Where?", "frame_num": []},
                ]
            ),
            "it counts those frames, from 0, and not the file's",
        ),
        (
            json.dumps([{"video": "videos/0.mp4", "question": "?", "frame_num": []}]),
            "frame_num of all 1 records is empty, so there is nothing to rank",
        ),
    ],
)
def test_bad_records_are_one_line_and_exit_2(records, message, run, media, tmp_path):
    path = tmp_path / "records.json"
    path.write_text(records, "utf-8")
    code, out, err = run("--records", path, "--media-root", media, "--checkpoint", CHECKPOINT)
    assert (code, out) == (2, "")
    assert_one_error(err, message)
