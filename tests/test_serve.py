"""ladic serve: the service, the HTTP API with its limits, and the page in a real browser."""

import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from PIL import Image
from tiny_run import error_line, picture

from ladic.captioner import LatentDiffusionCaptioner
from ladic.cli.serve import application, parse
from ladic.errors import UsageError
from ladic.serve.service import MOST_PICTURES, CaptionService, Limits, Settings, TooLarge


@pytest.fixture(scope="module")
def model(trained):
    return LatentDiffusionCaptioner.load_from_checkpoint(trained)


@pytest.fixture(scope="module")
def service(model):
    return CaptionService({"tiny": model}, Limits(megabytes=0.2, megapixels=1))


def jpeg(size=(40, 30), colour="red"):
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "JPEG")
    return buffer.getvalue()


# The service.


def test_it_says_what_the_model_says(service, model):
    image = Image.new("RGB", (40, 30), "red")
    found = service.caption(image, Settings(num_candidates=3, seed=5))
    assert len(found.candidates) == 3
    model.seed, before = 5, model.seed
    try:
        assert model.caption(image, num_candidates=3)[0].candidates == found.candidates
    finally:
        model.seed = before


def test_a_visitors_settings_are_nobody_elses(service, model):
    image = Image.new("RGB", (40, 30), "red")
    before = service.caption(image)
    assert service.caption(image, Settings(num_steps=7, guidance_scale=1)).nfe == 7
    assert service.caption(image) == before
    assert model.sampler.num_steps == 2


def test_many_visitors_at_once(service):
    image = Image.new("RGB", (40, 30), "blue")
    alone = {n: service.caption(image, Settings(seed=n)).caption for n in range(6)}
    together = {}
    threads = [
        threading.Thread(target=lambda n=n: together.update({n: service.caption(image, Settings(seed=n)).caption}))
        for n in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_steps": 0}, "num_steps=0: accepted are 1 to 100"),
        ({"num_candidates": 1000}, "num_candidates=1000: accepted are 1 to 32"),
        ({"guidance_scale": float("nan")}, "guidance_scale=nan"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_settings_have_ends(values, message):
    with pytest.raises(UsageError, match=message):
        Settings(**values)


@pytest.mark.parametrize("kind", ["EPS", "PPM", "ICO"])
def test_few_decoders_see_a_strangers_bytes(service, kind):
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30)).save(buffer, kind)
    with pytest.raises(UsageError, match=r"not a picture; accepted are JPEG, PNG, WEBP.*: send the bytes of a JPEG"):
        service.read(buffer.getvalue())


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "MPO"])
def test_pictures_of_every_usual_kind_are_read(service, kind):
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(buffer, kind)
    assert service.read(buffer.getvalue()).size == (40, 30)


def test_few_pictures_are_in_memory_at_a_time(service):
    held, most = [], []

    def visit():
        with service.opened(jpeg()) as image:
            held.append(image)
            most.append(len(held))
            time.sleep(0.02)
            held.remove(image)

    threads = [threading.Thread(target=visit) for _ in range(3 * MOST_PICTURES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 3 * MOST_PICTURES
    assert 1 < max(most) <= MOST_PICTURES


def test_a_file_is_weighed_before_it_is_read(service, tmp_path, monkeypatch):
    (tmp_path / "a.jpg").write_bytes(jpeg())
    with service.opened(tmp_path / "a.jpg") as image:
        assert image.size == (40, 30)
    (tmp_path / "b.jpg").write_bytes(b"x" * 300_000)
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("it was read"))
    with pytest.raises(TooLarge, match=r"0\.3 MiB; accepted are 0\.2"), service.opened(tmp_path / "b.jpg"):
        pass


# The API.


def need_gradio():
    pytest.importorskip("gradio", reason="gradio is absent: pip install 'ladic[ui]'")


@pytest.fixture(scope="module")
def client(trained):
    need_gradio()
    from fastapi.testclient import TestClient

    app = application(parse([str(trained), "--max-megabytes=0.2", "--max-megapixels=1"]))
    with TestClient(app, base_url="http://127.0.0.1:7860") as client:
        yield client


def test_a_caption_by_http(client, service):
    answer = client.post("/api/caption?num_candidates=3&seed=1", content=jpeg())
    assert answer.status_code == 200
    found = answer.json()
    assert found["caption"] in found["candidates"]
    assert len(found["candidates"]) == len(found["scores"]) == 3
    expected = service.caption(service.read(jpeg()), Settings(num_candidates=3, seed=1))
    assert found["candidates"] == expected.candidates
    assert "image" not in found


def test_a_filling_and_a_trace_by_http(client):
    filled = client.post("/api/infill", params={"template": "a ___ circle"}, content=jpeg()).json()
    assert filled["caption"].startswith("a ")
    assert filled["caption"].endswith(" circle")
    traced = client.post("/api/trace?num_steps=3", content=jpeg()).json()
    assert len(traced["steps"]) == 3
    moving = client.post("/api/trace.gif?num_steps=3", content=jpeg())
    assert moving.headers["content-type"] == "image/gif"
    assert Image.open(io.BytesIO(moving.content)).n_frames == 3


def test_it_tells_about_itself(client):
    about = client.get("/api").json()
    assert about["models"]["run"]["num_steps"] == 2
    assert about["limits"]["megabytes"] == 0.2


def bomb():
    """A small file that holds a picture beyond the limit."""
    buffer = io.BytesIO()
    Image.new("1", (4000, 4000)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("address", "body", "status", "message"),
    [
        ("/api/caption", b"", 400, "the body is empty"),
        ("/api/caption", b"hello", 400, "not a picture; accepted are JPEG"),
        ("/api/caption", jpeg()[:200], 400, "image: "),
        ("/api/caption", b"x" * 300_000, 413, "larger than the 0.2 MiB"),
        ("/api/caption", bomb(), 413, "4000 x 4000 pixels"),
        ("/api/caption?num_steps=100000", jpeg(), 400, "num_steps=100000: accepted are 1 to 100"),
        ("/api/caption?model=other", jpeg(), 400, "model 'other': there are run"),
        ("/api/infill?template=" + "a" * 600, jpeg(), 400, "600 characters; accepted are 500"),
        ("/api/infill?template=no%20blank", jpeg(), 400, ""),
    ],
)
def test_what_is_wrong_is_one_line(client, address, body, status, message):
    answer = client.post(address, content=body)
    assert answer.status_code == status, answer.text
    assert message in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


def test_a_length_that_lies_is_no_way_around_the_limit(client):
    def endless():
        for _ in range(100):
            yield b"x" * 10_000

    assert client.post("/api/caption", content=endless()).status_code == 413


def test_no_path_of_the_machine_can_be_read(client, tmp_path):
    secret = picture(tmp_path / "secret.png")
    for path in (secret, Path(__file__).resolve(), "/etc/hostname", Path.cwd() / "README.md"):
        for address in (f"/gradio_api/file={path}", f"/file={path}", f"/gradio_api/file=../../{path}"):
            assert client.get(address).status_code in (403, 404), address
    config = client.get("/config").json()
    for dependency in config["dependencies"]:
        for path in (secret, "/etc/hostname", "http://127.0.0.1/x.png", f"/tmp/gradio/../{secret}", ["x"]):
            data = {"path": str(path) if isinstance(path, Path) else path, "meta": {"_type": "gradio.FileData"}}
            event = {"data": [data, 2, 1, 1, 0], "fn_index": dependency["id"], "session_hash": "x"}
            for route in ("queue/join", "run/predict", f"call/{dependency['api_name']}"):
                assert client.post(f"/gradio_api/{route}", json=event).status_code == 400, (route, path)
    event["data"][0] = {"path": None, "url": "data:image/png;base64,AAAA"}  # gradio would decode it, past all limits
    assert client.post("/gradio_api/queue/join", json=event).status_code == 400


def asked_of_page(client, content, seed=0):
    """What the page shows of a picture, by its own way: upload, join the queue, read the answer."""
    (path,) = client.post("/gradio_api/upload", files={"files": ("a.png", content, "image/png")}).json()
    config = client.get("/config").json()
    data = {"path": path, "meta": {"_type": "gradio.FileData"}}
    event = {"data": [data, 2, 1, 1, seed], "fn_index": config["dependencies"][0]["id"], "session_hash": "y"}
    assert client.post("/gradio_api/queue/join", json=event).status_code == 200
    return client.get("/gradio_api/queue/data?session_hash=y").text


@pytest.mark.parametrize("seed", [0, None])  # None: the field was cleared
def test_what_was_uploaded_can_be_used(client, seed):
    stream = asked_of_page(client, jpeg(), seed)
    assert '"success":true' in stream
    assert "ladic-caption" in stream


def test_the_page_has_the_limits_of_the_api(client):
    assert "4000 x 4000 pixels; accepted are 1 million" in asked_of_page(client, bomb())


def test_the_page_reads_a_picture_as_the_api_does(client, monkeypatch):
    """What is transparent is white for both."""
    buffer = io.BytesIO()
    Image.new("RGBA", (40, 30), (255, 0, 0, 0)).save(buffer, "PNG")
    seen, caption = [], CaptionService.caption
    monkeypatch.setattr(CaptionService, "caption", lambda own, *asked: seen.append(asked[0]) or caption(own, *asked))
    asked_of_page(client, buffer.getvalue())
    client.post("/api/caption", content=buffer.getvalue())
    page, api = seen
    assert page.mode == "RGB"
    assert page.tobytes() == api.tobytes() == b"\xff" * 3600


def test_an_upload_beyond_the_limit_is_refused(client):
    answer = client.post("/gradio_api/upload", files={"files": ("a.jpg", b"x" * 300_000, "image/jpeg")})
    assert answer.status_code == 413


def test_names_that_point_here_are_not_answered(client):
    assert client.get("/api", headers={"host": "evil.example"}).status_code == 400
    assert client.get("/api", headers={"host": "localhost:7860"}).status_code == 200


def test_it_listens_on_this_machine_alone_by_default():
    assert parse(["run"]).host == "127.0.0.1"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "CHECKPOINT"),
        (["a", "b", "c"], "accepted are one, or two"),
        (["a", "--port=0"], "--port 0: accepted are 1 to 65535"),
        (["a", "--max-megabytes=0"], "--max-megabytes 0"),
        (["{tmp}/gone"], "no such file or folder"),
    ],
)
def test_wrong_words_are_one_line(cli, tmp_path, words, message):
    if message == "no such file or folder":  # the page's package is asked for before the checkpoint
        pytest.importorskip("gradio")
    done = cli("serve", *[word.format(tmp=tmp_path) for word in words])
    assert done.code == 2
    assert message in error_line(done.stderr)


def test_without_gradio_the_extra_is_named(cli, trained, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert "pip install 'ladic[ui]'" in error_line(cli("serve", trained).stderr)


# The page.


@pytest.fixture(scope="module")
def address(trained, tmp_path_factory):
    """A server of two checkpoints, started as a user would start it."""
    need_gradio()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "ladic", "serve", str(trained), str(trained / "last.ckpt"), f"--port={port}"]
    log = (tmp_path_factory.mktemp("serve") / "log").open("w+")
    process = subprocess.Popen(words, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"})
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{address}/api", timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, Path(log.name).read_text()
                time.sleep(0.5)
        yield address
    finally:
        process.terminate()
        process.wait(20)


def test_in_a_browser(browser, address, tmp_path):
    """Everything on the page, by hand: drop, caption, fill in, watch; for two models side by side."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    problems, asked = [], set()
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: asked.add(request.url.split("/")[2] if "//" in request.url else ""))
    page.goto(address)
    page.locator("input[type=file]").first.set_input_files(picture(tmp_path / "a.png", size=(400, 300)))
    for number in range(2):
        page.wait_for_selector(f"#caption-{number} .ladic-caption", timeout=60_000)
    before = page.inner_text("#caption-0 .ladic-note >> nth=-1")
    assert "4 network evaluations" in before
    page.get_by_label("number input for Steps").fill("5")
    page.get_by_label("number input for Candidates").fill("3")
    page.get_by_label("number input for Candidates").press("Tab")
    page.click("#write")
    page.wait_for_function("document.querySelector('#caption-0').innerText.includes('10 network evaluations')")
    if os.environ.get("LADIC_SCREENSHOTS"):
        page.screenshot(path=f"{os.environ['LADIC_SCREENSHOTS']}/caption.png")
    page.get_by_role("tab", name="Fill in").click()
    page.get_by_label("Template").fill("a ___ circle")
    page.click("#fill")
    page.wait_for_selector("#filling-1 .ladic-caption", timeout=60_000)
    assert page.inner_text("#filling-1 .ladic-caption").endswith("circle")
    if os.environ.get("LADIC_SCREENSHOTS"):
        page.screenshot(path=f"{os.environ['LADIC_SCREENSHOTS']}/fill.png")
    page.get_by_role("tab", name="Watch").click()
    page.click("#watch")
    page.wait_for_selector("#film-1 li", timeout=60_000)
    assert page.locator("#film-0 li").count() == 5
    assert page.evaluate("parseFloat(getComputedStyle(document.querySelector('#film-0 li')).fontSize)") >= 13
    beyond = "[...document.querySelectorAll('#film-0 li')].some(row => row.scrollWidth > row.clientWidth + 1)"
    assert not page.evaluate(beyond), "words run into the other model's"
    if os.environ.get("LADIC_SCREENSHOTS"):
        page.wait_for_timeout(2500)
        page.screenshot(path=f"{os.environ['LADIC_SCREENSHOTS']}/watch.png")
    page.get_by_role("tab", name="Fill in").click()
    page.get_by_label("Template").fill("nothing to fill")
    page.click("#fill")
    page.wait_for_selector("text=blank", timeout=60_000)  # what is wrong is said on the page
    assert problems == []
    assert {host for host in asked if host} == {address.split("/")[2]}, "nothing is loaded from elsewhere"
    page.close()


def test_without_a_picture_it_says_so(browser, address):
    page = browser.new_page()
    page.goto(address)
    page.click("#write")
    page.wait_for_selector("text=Drop a picture first", timeout=60_000)
    page.close()


def test_on_a_telephone(browser, address, tmp_path):
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.goto(address)
    page.locator("input[type=file]").first.set_input_files(picture(tmp_path / "a.png", size=(400, 300)))
    page.wait_for_selector("#caption-1 .ladic-caption", timeout=60_000)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth + 1"), "it scrolls sideways"
    if os.environ.get("LADIC_SCREENSHOTS"):
        page.screenshot(path=f"{os.environ['LADIC_SCREENSHOTS']}/telephone.png", full_page=True)
    page.close()


def test_the_api_of_the_running_server(address):
    request = urllib.request.Request(f"{address}/api/caption?num_candidates=2", data=jpeg(), method="POST")
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert len(json.loads(answer.read())["candidates"]) == 2
