"""Manifests: what a line may be, and what becomes of one that is none."""

import itertools
import json
import sys
import tracemalloc

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry
from fsspec.spec import AbstractBufferedFile

from groundserve.batch.rows import MAX_LINE_BYTES, BadRow, Row, read_manifest, rows_of_folder
from groundserve.errors import InvalidRequestError, MissingExtraError
from groundserve.options import ScoreOptions

DEFAULTS = ScoreOptions(top_k=4)


def read(place, **options):
    return list(read_manifest(str(place), defaults=DEFAULTS, **options))


def jsonl(tmp_path, *lines):
    path = tmp_path / "m.jsonl"
    texts = (line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
    path.write_bytes(b"\n".join(texts))
    return path


def only(rows):
    (row,) = rows
    return row


@pytest.fixture(params=["jsonl", "csv", "parquet"])
def manifest(request, tmp_path):
    """Writes the same rows in each format."""

    def write(*rows):
        path = tmp_path / f"m.{request.param}"
        names = list(dict.fromkeys(name for row in rows for name in row))
        if request.param == "jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        elif request.param == "parquet":
            pq.write_table(pa.table({n: [row.get(n) for row in rows] for n in names}), path)
        else:
            cells = [[str(row.get(n) or "") for n in names] for row in rows]
            quoted = [",".join('"' + c.replace('"', '""') + '"' for c in line) for line in cells]
            path.write_text("\r\n".join([",".join(names), *quoted]) + "\r\n")
        return path

    return write


def test_each_format_says_the_same(manifest, tmp_path):
    path = manifest(
        {"id": "a", "video": "v/1.mp4", "query": 'Wo ist, "das" Rad?\n', "options": None},
        {"id": None, "video": "/x/2.mp4", "query": "二", "options": '{"top_k": 2}'},
    )
    assert read(path) == [
        Row(
            id="a",
            video="v/1.mp4",
            place=str(tmp_path / "v/1.mp4"),
            query='Wo ist, "das" Rad?\n',
            options=DEFAULTS,
            position=0,
        ),
        Row(
            id="",
            video="/x/2.mp4",
            place="/x/2.mp4",
            query="二",
            options=ScoreOptions(top_k=2),
            position=1,
        ),
    ]


def test_a_rows_options_go_over_the_commands_and_whole_numbers_are_ids(tmp_path):
    options = [{"top_k": 3, "seek": None}, {"top_k": None, "seek": "keyframe"}, None]
    table = pa.table({"id": [1, 2, 3], "video": ["1"] * 3, "query": ["q"] * 3, "options": options})
    pq.write_table(table, tmp_path / "m.parquet")
    expected = [ScoreOptions(top_k=3), ScoreOptions(top_k=4, seek="keyframe"), DEFAULTS]
    rows = read(tmp_path / "m.parquet")
    assert [row.options for row in rows] == expected
    assert [row.id for row in rows] == ["1", "2", "3"]
    lines = ({"id": 12, "video": "1", "query": "q", "options": {"sample_fps": 2}},)
    row = only(read(jsonl(tmp_path, *lines)))
    assert (row.id, row.options) == ("12", ScoreOptions(top_k=4, sample_fps=2))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "a line must be one JSON object in UTF-8"),
        ('{"video": "Fußball/二.mp4", "früh": 1}'.encode(), "query is missing"),
        (b'{"video": "a", "video": "b"}', 'a line must hold each key once, got "video" twice'),
        ({"video": 1, "query": "q"}, "video must be a text, got 1"),
        ({"video": "1", "query": "\ud800"}, r"query must be Unicode text, got '\ud800' in it"),
        ({"video": "a\0b", "query": "q"}, "video must be a path without a zero byte"),
        ({"video": "ftp://h/a.mp4", "query": "q"}, "must be a path or a URL of file, memory, s3"),
        ({"video": "1", "query": "q" * 20_000}, "query must be at most 16384 bytes, got 20000"),
        ({"video": "1", "query": "q", "id": ""}, "id must not be empty; leave it out"),
        ({"video": "1", "query": "q", "id": 1.5}, "id must be a text or a whole number, got 1.5"),
        ({"video": "1", "query": "q", "options": [1]}, "options must be an object, got [1]"),
        ({"video": "1", "query": "q", "options": {"k": 1}}, 'unknown option "k"; known options:'),
        ({"video": "1", "query": "q", "top_k": 3}, "top_k is an option; put it into the column"),
        (b'"' + b"x" * MAX_LINE_BYTES + b'"', "a line must be at most 1048576 bytes"),
    ],
)
def test_a_broken_line_is_a_row_with_an_error(tmp_path, line, message):
    good = {"video": "1", "query": "q"}
    path = jsonl(tmp_path, good, line, good)
    before, bad, after = read(path)
    assert isinstance(bad, BadRow)
    assert bad.message.startswith(f"{path}, line 2: ")
    assert message in bad.message
    assert f"; it reads {path.read_text('utf-8', 'backslashreplace').splitlines()[1][:80]}" in (
        bad.message
    )
    assert isinstance(before, Row)
    assert isinstance(after, Row)
    assert [before.position, bad.position, after.position] == [0, 1, 2]


def test_a_broken_line_keeps_what_could_be_read_of_it(tmp_path):
    line = {"id": 7, "video": "a\ud800", "query": "q", "options": {"top_k": -1}}
    bad = only(read(jsonl(tmp_path, line)))
    assert (bad.id, bad.video, bad.query) == ("7", r"a\ud800", "q")
    bad.video.encode()


def test_blank_lines_and_a_byte_order_mark_are_no_rows(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"video": "1", "query": "q"}\r\n\n{"video": "2", "query": "q"}')
    assert [row.position for row in read(path)] == [0, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"1.mp4", "a line must have 2 cells as the first, got 1"),
        (b"1.mp4,q,r", "a line must have 2 cells as the first, got 3"),
        (b"1.mp4,\xff", r"query must be Unicode text, got '\udcff' in it"),
        (b"1.mp4," + b"x" * 200_000, "not CSV: field larger than field limit"),
        (b",q", "video is missing"),
    ],
)
def test_a_broken_line_of_csv(tmp_path, text, message):
    path = tmp_path / "m.CSV"
    path.write_bytes(b"\xef\xbb\xbfvideo,query\n1.mp4,q\n" + text + b"\n\n2.mp4,q\n")
    before, bad, after = read(path)
    assert message in bad.message
    assert "m.CSV, line" in bad.message
    assert (before.video, after.video) == ("1.mp4", "2.mp4")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.csv", b"video;query\n", "must have the columns video and query, got video;query"),
        ("m.csv", b"video,query,query\n", "has two columns of one name"),
        ("m.csv", b"video,query,top_k\n", "top_k is an option; put it into the column options"),
        ("m.parquet", b"PAR1", "as Parquet"),
    ],
)
def test_a_manifest_that_is_none_is_refused_before_any_row(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidRequestError) as caught:
        read_manifest(str(tmp_path / name), defaults=DEFAULTS)
    assert message in str(caught.value)


def test_packages_are_of_an_extra(tmp_path, monkeypatch):
    for package in ("pyarrow", "fsspec"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=r"fsspec .*'groundserve\[batch\]'"):
        read_manifest("s3://b/m.csv", defaults=DEFAULTS)
    (tmp_path / "a.mp4").touch()
    path = jsonl(tmp_path, {"video": "a.mp4", "query": "q"})
    assert isinstance(only(read(path)), Row)  # which need none of them


@pytest.mark.parametrize("kinds", [("binary", "string"), ("large_binary", "large_string")])
def test_text_of_parquet_that_is_not_utf8(tmp_path, kinds):
    query = pa.array([b"q", b"\xff", None], kinds[0]).view(kinds[1])
    table = pa.table({"video": ["a"] * 3, "query": query, "id": [1, 2, 3]})
    pq.write_table(table, tmp_path / "m.parquet")
    good, bad, missing = read(tmp_path / "m.parquet")
    assert isinstance(good, Row)
    assert bad.id == "2"
    assert r"row 2: query must be Unicode text, got '\udcff' in it; it reads " in bad.message
    assert "row 3: query is missing" in missing.message


def test_a_quote_that_nothing_closes_tells_which_lines_it_took(tmp_path):
    lines = ["video,query", '"a,q', *["b,q"] * 50_000]
    (tmp_path / "m.csv").write_text("\n".join(lines) + "\n")
    bad, *others = read(tmp_path / "m.csv")
    last = len(lines) - len(others)
    assert last > 2
    assert bad.message.startswith(f"{tmp_path}/m.csv, lines 2 to {last}: not CSV: ")


def test_parquet_that_breaks_off(tmp_path):
    path = tmp_path / "m.parquet"
    pq.write_table(pa.table({"video": ["a"] * 3000, "query": list(map(str, range(3000)))}), path)
    data = bytearray(path.read_bytes())
    data[200:-2000] = bytes(len(data) - 2200)
    path.write_bytes(data)
    with pytest.raises(InvalidRequestError, match="as Parquet"):
        read(path)


def test_places_start_from_the_manifests_folder(tmp_path):
    lines = [
        {"video": video, "query": "q"}
        for video in ("a.mp4", "../a.mp4", "/b.mp4", "s3://c/d.mp4", "file:///e.mp4")
    ]
    local = [row.place for row in read(jsonl(tmp_path, *lines))]
    top = str(tmp_path)
    assert local[:2] == [f"{top}/a.mp4", str(tmp_path.parent / "a.mp4")]
    assert local[2:] == ["/b.mp4", "s3://c/d.mp4", "/e.mp4"]
    fsspec.filesystem("memory").pipe("/set/m.jsonl", jsonl(tmp_path, *lines[:3]).read_bytes())
    remote = [row.place for row in read("memory://set/m.jsonl")]
    assert remote == ["memory://set/a.mp4", "memory://a.mp4", "/b.mp4"]
    assert read("memory://set/m.jsonl")[1].video == "../a.mp4"


class Store(MemoryFileSystem):
    """A store as most are: its files are fsspec's, which read by ranges and lines of any length."""

    protocol = "s3"

    class File(AbstractBufferedFile):
        def _fetch_range(self, start, end):
            return self.fs.cat_file(self.path, start, end)

    @classmethod
    def _strip_protocol(cls, path):
        return "/" + path.removeprefix("s3://").lstrip("/")

    def _open(self, path, mode="rb", **options):
        if mode == "rb":
            return self.File(self, path, mode, block_size=7, size=self.size(path))
        return super()._open(path, mode, **options)


def test_a_manifest_in_a_store(manifest, monkeypatch):
    monkeypatch.setitem(_registry, "s3", Store)
    rows = [{"video": f"{n}.mp4", "query": "二" * n} for n in range(1, 9)]
    path = manifest(*rows)
    place = f"s3://set/{path.name}"
    fsspec.filesystem("s3").pipe_file(place, path.read_bytes())
    assert [(row.place, row.query) for row in read(place)] == [
        (f"s3://set/{row['video']}", row["query"]) for row in rows
    ]


def test_memory_is_that_of_a_batch(tmp_path):
    """Ten times the rows, the same memory."""

    def peak(num_rows, name):
        path = tmp_path / name
        if name.endswith("jsonl"):
            with path.open("w") as file:
                for number in range(num_rows):
                    file.write(json.dumps({"video": "a", "query": f"{number}"}) + "\n")
        else:
            queries = list(map(str, range(num_rows)))
            table = pa.table({"video": ["a"] * num_rows, "query": queries})
            pq.write_table(table, path, row_group_size=1024)
        tracemalloc.start()
        count = sum(1 for _ in read_manifest(str(path), defaults=DEFAULTS))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert count == num_rows
        return most

    for ending in ("jsonl", "parquet"):
        few, many = (peak(number, f"{number}.{ending}") for number in (2_000, 20_000))
        # All of them held would be ten times as much.
        assert many < 4 * few


def make_folder(tmp_path):
    for name in ("b.mp4", "a.MKV", "sub/c.webm", ".hidden.mp4", ".git/d.mp4", "notes.txt"):
        path = tmp_path / "videos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "videos"


def test_each_video_of_a_folder_with_each_question(tmp_path):
    folder = make_folder(tmp_path)
    rows = list(rows_of_folder(f"{folder}/", ["one", "two"], defaults=DEFAULTS))
    videos = ["a.MKV", "b.mp4", "sub/c.webm"]
    asked = [(video, query) for video, query in itertools.product(videos, ["one", "two"])]
    assert [(row.video, row.query) for row in rows] == asked
    assert [row.place for row in rows[::2]] == [str(folder / video) for video in videos]
    assert [row.position for row in rows] == list(range(6))


def test_a_folder_of_a_store():
    memory = fsspec.filesystem("memory")
    for name in ("b.mp4", "sub/c.webm", ".git/d.mp4", "notes.txt"):
        memory.pipe(f"/folder/{name}", b"")
    rows = list(rows_of_folder("memory://folder", ["q"], defaults=DEFAULTS))
    assert [row.place for row in rows] == ["memory://folder/b.mp4", "memory://folder/sub/c.webm"]
