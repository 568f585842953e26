"""Chat completions through the gateway, asked by an unmodified client of OpenAI's."""

import asyncio
import base64
import json

import openai
import pytest

from groundserve.errors import InvalidRequestError, UnavailableError
from groundserve.gateway.chat import _Stop
from groundserve.gateway.video_llms import VideoLlm, read_video_llms
from tests.support.origin import Origin, whole
from tests.support.reference import SET_2
from tests.support.scripted_llm import ScriptedLlm
from tests.unit.gateway.conftest import wait_until

VIDEO = b"a video's bytes"
QUESTION = "When is it? Now."


def client_of(gateway, kind=openai.OpenAI, key="none"):
    return kind(base_url=f"{gateway.server.url}/v1", api_key=key, max_retries=0, timeout=60)


def about(video, text=QUESTION):
    parts = [{"type": "video_url", "video_url": {"url": video}}]
    return [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}]


@pytest.fixture
def gateway(start, scripted):
    return start(scripted, allow_hosts=("http://*",), allow_networks=("127.0.0.0/8",))


@pytest.fixture
def stored(gateway):
    return gateway.post("/v1/videos", content=VIDEO).json()["id"]


def test_a_family_answers(gateway, scripted, stored):
    with client_of(gateway) as client:
        answer = client.chat.completions.create(
            model="vtimellm",
            messages=about(stored),
            max_tokens=9,
            temperature=0.5,
            seed=3,
            top_p=1,
            n=1,
            user="me",
            extra_body={"task": "moment"},
        )
    assert answer.choices[0].message.content.strip() == QUESTION
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (5, 2)
    assert answer.groundserve["moments"] == [
        {"start": 0.5, "end": 2.25, "score": None, "text": "é"}
    ]
    (request,) = scripted.requests
    assert request.queries == [QUESTION]
    asked = {name: request.options[name] for name in ("task", "max_new_tokens", "temperature")}
    assert asked == {"task": "moment", "max_new_tokens": 9, "temperature": 0.5}
    assert request.options["seed"] == 3


def test_text_is_streamed(gateway, stored):
    with client_of(gateway) as client:
        chunks = list(
            client.chat.completions.create(
                model="vtimellm",
                messages=about(stored),
                stream=True,
                stream_options={"include_usage": True},
            )
        )
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(texts).strip() == QUESTION
    assert [text for text in texts if text][:2] == ["When ", "is "]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-2].groundserve["moments"]
    assert chunks[-1].usage.total_tokens == 7
    assert len({chunk.id for chunk in chunks}) == 1


def test_the_asynchronous_client(gateway, stored):
    async def ask():
        async with client_of(gateway, openai.AsyncOpenAI) as client:
            create = client.chat.completions.create
            whole = await create(model="vtimellm", messages=about(stored))
            stream = await create(model="vtimellm", messages=about(stored), stream=True)
            pieces = [one.choices[0].delta.content or "" async for one in stream]
        return whole.choices[0].message.content.strip(), "".join(pieces).strip()

    assert asyncio.run(ask()) == (QUESTION, QUESTION)


@pytest.mark.parametrize("is_streamed", [False, True])
def test_stop_strings_end_an_answer(gateway, stored, is_streamed):
    with client_of(gateway) as client:
        given = {"model": "vtimellm", "messages": about(stored), "stop": ["it? N", "zzz"]}
        if is_streamed:
            chunks = list(client.chat.completions.create(**given, stream=True))
            text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
            reason = chunks[-1].choices[0].finish_reason
        else:
            choice = client.chat.completions.create(**given).choices[0]
            text, reason = choice.message.content, choice.finish_reason
    assert (text, reason) == ("When is ", "stop")


def test_a_stop_string_may_come_in_pieces():
    stop = _Stop(["END", "EX"])
    told = [stop.cut(text, is_last=False) for text in ("a E", "N", "E", "N", "D")]
    assert told == [("a ", False), ("", False), ("EN", False), ("", False), ("", True)]
    assert _Stop(["END"]).cut("EN", is_last=True) == ("EN", False)
    assert _Stop([]).cut("EN", is_last=False) == ("EN", False)


def test_ways_to_name_the_video(gateway, scripted, stored):
    seen = []
    scripted.script = lambda request: seen.append(request.read_video())
    data = f"data:video/mp4;base64,{base64.b64encode(VIDEO).decode()}"
    with Origin({"/a.mp4?key": whole(VIDEO)}) as origin, client_of(gateway) as client:
        for url in (stored, f"groundserve://videos/{stored}", data, origin.url("/a.mp4?key")):
            client.chat.completions.create(model="vtimellm", messages=about(url, "x"))
    assert seen == [VIDEO] * 4
    assert len(gateway.server.app.state.gateway.spool.store.videos()) == 1


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"messages": [{"role": "user", "content": "x"}]}, 400, "exactly one part of type"),
        ({"messages": about("video-none")}, 404, "no such video"),
        ({"messages": about("data:video/mp4;base64,!!!")}, 400, "data: URL"),
        ({"messages": about("https://10.0.0.1/a")}, 422, "may not be fetched"),
        ({"messages": about("http://10.0.0.1/a")}, 422, "cannot be fetched"),
        ({"messages": []}, 400, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, 400, "messages.0.role"),
        ({"model": "none"}, 404, "no such model"),
        ({"top_p": 0.5}, 400, "top_p goes with a temperature"),
        ({"n": 2}, 422, "n is not supported"),
        ({"presence_penalty": 1.0}, 422, "presence_penalty is not supported"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, 422, "tools is not"),
        ({"response_format": {"type": "json_object"}}, 422, "response_format is not"),
        ({"extra_body": {"beams": 3}}, 422, '"beams" is not supported'),
        ({"extra_body": {"task": "none"}}, 400, "task"),
        ({"stop": [""]}, 400, "stop must be"),
        ({"max_tokens": 0}, 400, "max_tokens"),
    ],
)
def test_what_is_refused_is_named(gateway, stored, change, status, message):
    given = {"model": "vtimellm", "messages": about(stored), **change}
    with client_of(gateway) as client, pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(**given)
    assert (caught.value.status_code, message in caught.value.message) == (status, True)


@pytest.mark.parametrize("role", ["system", "user", "assistant"])
def test_a_family_takes_no_history(gateway, stored, role):
    messages = [{"role": role, "content": "x"}, *about(stored)]
    with client_of(gateway) as client, pytest.raises(openai.APIStatusError, match="conversation"):
        client.chat.completions.create(model="vtimellm", messages=messages)


def test_an_error_amid_the_text_is_raised(gateway, scripted, stored):
    words = iter(range(10))

    def script(request):
        if next(words) == 2:
            raise InvalidRequestError("something is wrong")

    scripted.script = script
    with client_of(gateway) as client, pytest.raises(openai.APIError, match="something is wrong"):
        list(client.chat.completions.create(model="vtimellm", messages=about(stored), stream=True))


def test_the_work_ends_when_the_caller_leaves(gateway, scripted, stored):
    with client_of(gateway) as client:
        scripted.script = lambda request: wait_until(lambda: not request.context.is_active())
        body = {"model": "vtimellm", "messages": about(stored), "timeout": 1, "stream": True}
        with pytest.raises(openai.APITimeoutError):
            client.chat.completions.create(**body)
    (request,) = scripted.requests
    wait_until(lambda: not request.context.is_active())


@pytest.fixture
def llm_gateway(start, scripted):
    def started(llm, **settings):
        one = VideoLlm(name="qwen", base_url=llm.url, model="Qwen/Qwen3-VL", **settings)
        return start(scripted, video_llms=(one,))

    return started


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_video_llm_is_shown_the_chosen_frames(llm_gateway, scripted, monkeypatch, is_streamed):
    monkeypatch.setenv("QWEN_KEY", "sk-1")
    with ScriptedLlm("At ", "10 s.") as llm:
        settings = {"times": "markers", "num_frames": 2, "longest_side": 64}
        gateway = llm_gateway(llm, api_key_variable="QWEN_KEY", **settings)
        content = (SET_2 / "vfr.mp4").read_bytes()
        stored = gateway.post("/v1/videos", content=content).json()["id"]
        history = [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Hello."},
        ]
        given = {
            "model": "qwen",
            "messages": [*history, *about(stored)],
            "max_tokens": 7,
            "extra_body": {"top_k": 5},
        }
        with client_of(gateway) as client:
            models = [one.id for one in client.models.list()]
            if is_streamed:
                chunks = list(client.chat.completions.create(**given, stream=True))
                text = "".join(one.choices[0].delta.content or "" for one in chunks)
                more = chunks[0].groundserve
            else:
                answer = client.chat.completions.create(**given)
                text, more = answer.choices[0].message.content, answer.groundserve
                assert answer.usage.total_tokens == 7
    assert "qwen" in models
    assert text == "At 10 s."
    assert [one["frame_index"] for one in more["frames"]] == [10, 30]
    (request,), (key,) = llm.requests, llm.keys
    assert key == "Bearer sk-1"
    assert (request["model"], request["max_tokens"], request["top_k"]) == ("Qwen/Qwen3-VL", 7, 5)
    assert request["messages"][:3] == history
    before, picture, after, _, question = request["messages"][3]["content"]
    assert (before["text"], after["text"]) == ("<0.3 seconds>", "<1.0 seconds>")
    assert picture["image_url"]["url"].startswith("data:image/jpeg;base64,/9j/")
    assert question["text"] == QUESTION
    (asked,) = scripted.requests
    assert (asked.queries, asked.options["top_k"]) == ([QUESTION], 2)


@pytest.mark.parametrize(("status", "expected"), [(400, 400), (401, 503), (500, 503)])
def test_what_a_video_llm_says_of_errors_is_not_passed_on(llm_gateway, status, expected):
    with ScriptedLlm(status=status) as llm:
        gateway = llm_gateway(llm)
        content = (SET_2 / "vfr.mp4").read_bytes()
        stored = gateway.post("/v1/videos", content=content).json()["id"]
        with client_of(gateway) as client, pytest.raises(openai.APIStatusError) as caught:
            client.chat.completions.create(model="qwen", messages=about(stored))
    assert caught.value.status_code == expected
    assert "secret" not in str(caught.value)


def test_another_keys_video_is_none(start, scripted, tmp_path):
    from groundserve.gateway.keys import add_key

    keys = tmp_path / "keys"
    first, second = (add_key(keys, name) for name in ("a", "b"))
    gateway = start(scripted, key=first, keys_file=keys)
    stored = gateway.post("/v1/videos", content=VIDEO).json()["id"]
    for key, error in ((second, openai.NotFoundError), ("gs-x", openai.AuthenticationError)):
        with client_of(gateway, key=key) as client, pytest.raises(error):
            client.chat.completions.create(model="vtimellm", messages=about(stored))
    headers = {"authorization": f"Bearer {second}"}
    for place in ("frames/0.jpg", "clip.mp4?start=0&end=1"):
        assert gateway.get(f"/v1/videos/{stored}/{place}", headers=headers).status_code == 404


def test_video_llms_are_read_and_checked(tmp_path, monkeypatch):
    path = tmp_path / "llms.jsonl"
    good = {"name": "a", "base_url": "http://127.0.0.1:8000/v1"}
    path.write_text(json.dumps(good))
    assert read_video_llms(path) == (VideoLlm(**good),)
    monkeypatch.delenv("NO_KEY", raising=False)
    for change in (
        {"base_url": "ftp://a"}, {"num_frames": 0}, {"times": "x"}, {"name": ""}, {"other": 1},
        {"api_key_variable": "NO_KEY"},
    ):  # fmt: skip
        path.write_text(json.dumps({**good, **change}))
        with pytest.raises(InvalidRequestError, match="--video-llms"):
            read_video_llms(path)
    path.write_text(f"{json.dumps(good)}\n" * 2)
    with pytest.raises(InvalidRequestError, match="a second a"):
        read_video_llms(path)
    assert issubclass(UnavailableError, Exception)
