"""Tables and plots of pages are drawn from JSON by what the pages say."""

import json
from xml.etree import ElementTree

import pytest

from benchmarks import tables
from benchmarks._drawn import NOT_MEASURED, SpecError, draw_page

REPORT = {
    "date": "2026-01-02T03:04:05+00:00",
    "commit": "abc1234",
    "results": {
        "capacity": 40.0,
        "loads": {
            "50%": {"seconds": {"p50": 0.0123}, "answers": 2000, "walls": [3.0, 1.0, 2.0]},
            "80%": {"seconds": {"p50": 0.5}, "answers": 7, "extra": 1.5},
        },
        "ways": {"grpc": {"loads": {"1": {"n": 4}}}, "http": {"loads": {"1": {"n": 5}}}},
    },
}


@pytest.fixture
def results(tmp_path):
    (tmp_path / "load_cpu_2026-01-02.json").write_text(json.dumps(REPORT))
    older = {**REPORT, "commit": "old"}
    (tmp_path / "load_cpu_2026-01-01.json").write_text(json.dumps(older))
    return tmp_path


def block(*spec, kind="table", body="old\n"):
    lines = "\n".join(spec)
    return f"Before.\n\n<!-- {kind}\n{lines}\n-->\n{body}<!-- end -->\n\nAfter.\n"


def table_of(text, results):
    drawn = draw_page(text, results).text
    return [line for line in drawn.splitlines() if line.startswith("|")]


def test_rows_of_the_last_file(results):
    text = block(
        "results: load_cpu_*.json",
        "rows: loads",
        "load: {@} of {/results.capacity:.0f}",
        "p50: {seconds.p50*1000:.1f} ms",
        "answers: {answers:,}",
        "wall: {walls:.1f} s",
        "extra: ({extra:.1f})",
    )
    drawn = draw_page(text, results).text
    assert [line for line in drawn.splitlines() if line.startswith("|")] == [
        "| load | p50 | answers | wall | extra |",
        "| --- | --- | --- | --- | --- |",
        # The median of a list; nothing where a field is missing.
        "| 50% of 40 | 12.3 ms | 2,000 | 2.0 s |  |",
        "| 80% of 40 | 500.0 ms | 7 |  | (1.5) |",
    ]
    assert "old\n" not in drawn
    assert "`benchmarks/results/load_cpu_2026-01-02.json`: commit abc1234, 2026-01-02." in drawn
    assert drawn.startswith("Before.")
    assert drawn.endswith("After.\n")


def test_a_table_is_turned_over_and_shows_some_entries(results):
    spec = ("results: load_cpu_*.json", "columns: loads", "only: 80%", "heading: at {@}")
    assert table_of(block(*spec, "answers: {answers}"), results) == [
        "|  | at 80% |",
        "| --- | --- |",
        "| answers | 7 |",
    ]


def test_a_star_names_every_way(results):
    text = block("results: load_cpu_*.json", "rows: ways.*.loads", "load: {@}", "n: {n}")
    assert table_of(text, results)[2:] == ["| grpc, 1 | 4 |", "| http, 1 | 5 |"]


def test_drawing_again_changes_nothing(results):
    text = block("results: load_cpu_*.json", "rows: loads", "load: {@}")
    once = draw_page(text, results).text
    assert draw_page(once, results).text == once


def test_what_was_not_measured_says_so(results):
    table = block("results: none_*.json", "rows: loads", "load: {@}")
    plot = block(
        *("results: none_*.json", "image: images/a.svg", "title: t", "rows: loads"),
        *("bar: {answers}", "low: {answers}", "high: {answers}"),
        kind="plot",
    )
    for text in (table, plot):
        drawn = draw_page(text, results)
        assert f"-->\n{NOT_MEASURED}\n<!-- end -->" in drawn.text
        assert drawn.images == {}


def test_a_plot_has_a_bar_an_entry(results):
    text = block(
        *("results: load_cpu_*.json", "image: images/a.svg", "title: p50 < 1", "rows: loads"),
        *("bar: {seconds.p50}", "low: {seconds.p50*0.5}", "high: {seconds.p50*2}", "line: 0.1"),
        kind="plot",
    )
    drawn = draw_page(text, results)
    assert "![p50 < 1](images/a.svg)" in drawn.text
    root = ElementTree.fromstring(drawn.images["images/a.svg"])
    texts = [one.text for one in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts == ["p50 < 1", "50%", "0.01", "80%", "0.50"]
    widths = [float(one.get("width")) for one in root.iter("{http://www.w3.org/2000/svg}rect")][1:]
    assert widths[1] == pytest.approx(widths[0] * 0.5 / 0.0123, rel=0.02)


def test_a_sentence_is_filled_from_the_top_of_the_report(results):
    text = block(
        "results: load_cpu_*.json",
        "{results.capacity:.0f} a second on two lines:",
        "commit {commit}.",
        kind="text",
    )
    drawn = draw_page(text, results).text
    assert "-->\n40 a second on two lines:\ncommit abc1234.\n<!-- end -->" in drawn
    assert draw_page(drawn, results).text == drawn
    missing = block("results: load_cpu_*.json", "{results.capacity} {results.gone}", kind="text")
    with pytest.raises(SpecError, match=r"load_cpu_2026-01-02.json has nothing at 'results.gone'"):
        draw_page(missing, results)
    unmeasured = draw_page(block("results: none_*.json", "{a}", kind="text"), results).text
    assert f"-->\n{NOT_MEASURED}\n<!-- end -->" in unmeasured


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            ("results: load_cpu_*.json", "rows: loads", "a: {@}", "b: {renamed:.1f} s"),
            r"load_cpu_2026-01-02.json has nothing of '\{renamed:.1f\} s', the column 'b'",
        ),
        (("rows: loads", "a: {@}"), "needs a line 'results"),
        (("results: load_cpu_*.json", "a: {@}"), "needs a line 'rows"),
        (("results: load_cpu_*.json", "rows: nowhere", "a: {@}"), "'nowhere' holds no entries"),
        (("results: load_cpu_*.json", "rows: loads", "a: {seconds:.2f}"), "does not fit"),
        (("rows: loads", "a: {@}", "a : {@}"), "two lines 'a'"),
        (("results: load_cpu_*.json", "no colon"), "'NAME: VALUE', got 'no colon'"),
    ],
)
def test_a_block_that_cannot_be_drawn_is_refused(results, spec, message):
    with pytest.raises(SpecError, match=message):
        draw_page(block(*spec), results)


def test_the_pages_are_as_the_json_says():
    tables.main(["--check"])


def test_a_page_that_says_something_else_fails_the_check(tmp_path, results, monkeypatch, capsys):
    docs = tmp_path / "docs"
    docs.mkdir()
    (tmp_path / "README.md").write_text("no blocks\n")
    page = docs / "page.md"
    page.write_text(block("results: load_cpu_*.json", "rows: loads", "n: {answers}"))
    monkeypatch.setattr(tables, "REPOSITORY", tmp_path)
    monkeypatch.setattr(tables, "RESULTS", results)
    with pytest.raises(SystemExit):
        tables.main(["--check"])
    assert "docs/page.md" in capsys.readouterr().err
    assert "old" in page.read_text()
    tables.main([])
    assert "| 2000 |" in page.read_text()
    tables.main(["--check"])
