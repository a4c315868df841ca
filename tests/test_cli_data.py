"""ladic data check and download, prediction of folders, and training on real layouts, through the command line."""

import hashlib
import http.server
import json
import re
import shutil
import threading
import zipfile
from types import SimpleNamespace

import pytest
from data_trees import NAMES, coco_karpathy, coco_pictures, flickr_pictures, genome_pictures, stanford
from PIL import Image
from tiny_run import error_line, karpathy_tree, tiny_config, write_config

import ladic.cli.cache_features
import ladic.datamodules.downloads
from ladic.datamodules.downloads import RemoteData, RemoteFile

pytestmark = pytest.mark.filterwarnings("ignore:data.annotations", "ignore:.*training captions")


def config_with(tmp_path, data):
    config = tiny_config(tmp_path)
    config["data"] = data
    return write_config(tmp_path, config)


def spec(name, **init_args):
    return {"class_path": name, "init_args": {key: str(value) for key, value in init_args.items()} | {"batch_size": 2}}


def test_coco_and_paragraphs_train_a_step(cli, tmp_path):
    coco = spec(
        "CocoDataModule", annotations=coco_karpathy(tmp_path / "t"), images=coco_pictures(tmp_path / "p"), unit="image"
    )
    paragraphs = spec(
        "StanfordParagraphDataModule",
        annotations=stanford(tmp_path / "vg"), images=genome_pictures(tmp_path / "g"), augment="crop-flip",
    )  # fmt: skip
    for data in (coco, paragraphs):
        done = cli("fit", "-c", config_with(tmp_path, data), "--trainer.max_steps=1", "--trainer.val_check_interval=1")
        assert done.code == 0, done.stderr
    scored = json.loads((tmp_path / "run" / "results_val.json").read_text())
    assert [entry["image_id"] for entry in scored] == [2346802]


def test_a_folder_is_captioned_and_written_down(cli, tmp_path, trained):
    flickr_pictures(tmp_path / "mine", "a b ☀")
    config = config_with(tmp_path, spec("FolderDataModule", images=tmp_path / "mine"))
    done = cli("predict", "-c", config, f"--ckpt_path={trained}")
    assert done.code == 0, done.stderr
    file = tmp_path / "run" / "predictions.json"
    assert f"wrote 4 captions to {file}" in done.stdout
    written = json.loads(file.read_text())
    assert [entry["image_id"] for entry in written] == [f"a b ☀/{name}" for name in NAMES]
    assert not list((tmp_path / "run").glob("*.jsonl"))
    refused = cli("test", "-c", config, f"--ckpt_path={trained}")
    assert "no captions to test with; use `ladic predict`" in error_line(refused.stderr)


def test_prediction_from_the_cache_is_that_through_the_encoder(cli, tmp_path, trained):
    config = tmp_path / "tiny.yaml"
    config.write_text((trained.parent / "tiny.yaml").read_text())
    features = tmp_path / "features"
    assert cli("cache-features", "-c", config, "--output", features, "--splits=test").code == 0
    written = []
    for name, flags in (("a", []), ("b", [f"--data.features={features}", "--data.num_workers=2"])):
        root = f"--trainer.default_root_dir={tmp_path / name}"
        done = cli("predict", "-c", config, f"--ckpt_path={trained}", root, *flags)
        assert done.code == 0, done.stderr
        written.append((tmp_path / name / "predictions.json").read_text())
    assert written[0] == written[1]


@pytest.mark.parametrize(("number_format", "error"), [("bf16", 0.004), ("int8", 0.02)])
def test_a_cache_with_views_in_other_formats_trains(cli, tmp_path, number_format, error):
    data = karpathy_tree(tmp_path)
    data["init_args"] |= {"unit": "image", "augment": "crop-flip"}
    config, features = config_with(tmp_path, data), tmp_path / "features"
    words = ["cache-features", "-c", config, "--output", features, f"--format={number_format}", "--views=3"]
    done = cli(*words)
    assert done.code == 0, done.stderr
    assert float(re.search(r"train: 8 images, 3 x 64 tokens of 16 .* at most (\S+)", done.stdout)[1]) < error
    assert "train: 8 images are there already" in cli(*words).stdout
    assert cli("fit", "-c", config, f"--data.features={features}").code == 0
    other = cli("fit", "-c", config, f"--data.features={features}", "--data.augment=crop")
    assert "has 3 views made with augment 'crop-flip'" in error_line(other.stderr)


def test_processes_of_a_job_make_one_cache(cli, tmp_path, monkeypatch):
    config = write_config(tmp_path)
    size = f"--file-megabytes={5 * 64 * 16 * 2 / 2**20}"
    words = ["cache-features", "-c", config, size, "--batch-size=3", "--output"]
    monkeypatch.setattr(ladic.cli.cache_features, "WAIT", 0)
    early = cli(*words, tmp_path / "job", "--rank=1", "--world-size=2")
    assert "the process of rank 0 has not begun this cache" in error_line(early.stderr)
    first = cli(*words, tmp_path / "job", "--rank=0", "--world-size=2")
    assert "train: other processes still write files" in first.stdout
    monkeypatch.setenv("SLURM_PROCID", "1")
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    assert "wrote" in cli(*words, tmp_path / "job").stdout
    monkeypatch.delenv("SLURM_PROCID")
    assert cli(*words, tmp_path / "alone").code == 0
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.delenv("SLURM_STEP_NUM_TASKS")
    monkeypatch.setenv("SLURM_NTASKS", "2")
    assert "wrote" in cli(*words, tmp_path / "script").stdout, "a batch script without srun is alone"
    job, alone = ({file.name: file.read_bytes() for file in (tmp_path / name).iterdir()} for name in ("job", "alone"))
    assert job == alone


def test_a_cache_is_made_again_by_one_process(cli, tmp_path):
    config, folder = write_config(tmp_path), tmp_path / "features"
    words = ["cache-features", "-c", config, "--splits=train", "--output", folder]
    assert cli(*words).code == 0
    whole = {file.name: file.read_bytes() for file in folder.iterdir()}
    (folder / "train-00000.npy").write_bytes(bytes(len(whole["train-00000.npy"])))
    refused = error_line(cli(*words, "--overwrite", "--world-size=2", "--rank=1").stderr)
    assert refused == (
        f"--overwrite: not with 2 processes, which would remove each other's files; remove '{folder}' first and leave "
        "--overwrite out"
    )
    assert "wrote" in cli(*words, "--overwrite").stdout
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == whole


def test_broken_pictures_and_the_cache(cli, tmp_path):
    data = karpathy_tree(tmp_path)
    data["init_args"]["unit"] = "image"
    config, features = config_with(tmp_path, data), tmp_path / "features"
    (tmp_path / "images" / "train_3.jpg").write_bytes(b"")
    words = ["cache-features", "-c", config, "--output", features]
    assert "1 or more of 8 pictures of train are broken: image" in error_line(cli(*words).stderr)
    done = cli(*words, "--", "--data.skip_broken=0.2")
    assert "train: 1 broken pictures are left out:\n  image" in done.stdout
    refused = cli("fit", "-c", config, f"--data.features={features}")
    assert "data.skip_broken=0: 1 of 8 pictures of train are broken (12.5 %)" in error_line(refused.stderr)
    with pytest.warns(UserWarning, match="1 of 8 pictures of train are broken .* they are left out"):
        assert cli("fit", "-c", config, f"--data.features={features}", "--data.skip_broken=0.2").code == 0


def test_a_picture_that_changed_since_it_was_cached_is_noticed(cli, tmp_path):
    data = karpathy_tree(tmp_path)
    config, features = config_with(tmp_path, data), tmp_path / "features"
    assert cli("cache-features", "-c", config, "--output", features).code == 0
    for number in range(8):
        Image.effect_noise((40, 30), 90).convert("RGB").save(tmp_path / "images" / f"train_{number}.jpg")
    refused = cli("fit", "-c", config, f"--data.features={features}")
    assert "are not those that the encoder gives now" in error_line(refused.stderr)
    for number in range(8):
        (tmp_path / "images" / f"train_{number}.jpg").unlink()
    with pytest.warns(UserWarning, match="no sample was encoded again: image .* no such file"):
        assert cli("fit", "-c", config, f"--data.features={features}").code == 0


def test_check_tells_what_there_is_and_what_is_wrong(cli, tmp_path):
    data = karpathy_tree(tmp_path)
    for number, file in enumerate(sorted((tmp_path / "images").iterdir())):
        Image.new("RGB", (40, 30), (20 * number, 0, 0)).save(file)
    config = config_with(tmp_path, data)
    done = cli("data", "check", "-c", config, "--sheet", tmp_path / "sheet.png", "--json", tmp_path / "report.json")
    assert done.code == 0, done.stderr
    assert "train: 8 pictures, 40 captions (8 with 5)" in done.stdout
    assert "all pictures decoded: 0 missing, 0 broken" in done.stdout
    assert "tokens of a caption, of which the latent space takes 12: 40 are cut" in done.stdout
    assert "cut at 12" in done.stdout
    assert "too, the first" not in done.stdout
    assert Image.open(tmp_path / "sheet.png").height > 800
    assert json.loads((tmp_path / "report.json").read_text())["val"]["pictures"] == 2
    (tmp_path / "images" / "train_3.jpg").unlink()
    (tmp_path / "images" / "train_5.jpg").write_bytes(b"x")
    done = cli("data", "check", "-c", config, "--splits=train")
    assert (done.code, "1 missing, 1 broken" in done.stdout) == (1, True)
    assert cli("data", "check", "-c", config, "--splits=train", "--images=0").code == 0
    for name in ("train_1", "val_0"):
        shutil.copy(tmp_path / "images" / "train_0.jpg", tmp_path / "images" / f"{name}.jpg")
    done = cli("data", "check", "-c", config, "--splits=train,val")
    assert "1 pictures are files that come twice, the first: train_1.jpg is train_0.jpg" in done.stdout
    assert "1 files are in another split too, the first: val_0.jpg is train_0.jpg of train" in done.stdout
    content = json.loads((tmp_path / "dataset.json").read_text())
    content["images"].append({**content["images"][0], "split": "val"})
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    done = cli("data", "check", "-c", config, "--images=0")
    assert (done.code, "1 images are in train and in val, among them train_0.jpg" in done.stdout) == (1, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["chek"], "did you mean check?"),
        (["check", "-c", "x.yaml", "--splits=dev"], "--splits dev: accepted are train, val and test"),
        (["download", "cocoo"], "did you mean coco?"),
        (["download", "coco", "--only=train.zip"], "did you mean train2014.zip?"),
    ],
)
def test_wrong_words_for_data(cli, words, message):
    done = cli("data", *words)
    assert (done.code, message in error_line(done.stderr)) == (2, True)


class Server(http.server.BaseHTTPRequestHandler):
    """Gives files, in parts if asked; breaks off after ``most`` bytes."""

    files: dict[str, bytes] = {}  # noqa: RUF012
    most, resumes, asked = 1 << 30, True, []

    def do_GET(self):
        content = self.files.get(self.path)
        start = int(re.match(r"bytes=(\d+)-", self.headers.get("Range", "bytes=0-"))[1]) if self.resumes else 0
        self.asked.append((self.path, start))
        if content is None or start > len(content):
            self.send_error(404 if content is None else 416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start : start + self.most])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("inside/a.txt", "hello" * 1000)
    content = (tmp_path / "x.zip").read_bytes()
    handler = type("Handler", (Server,), {"files": {"/data/x.zip": content}, "asked": []})
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{running.server_port}/data"
    file = RemoteFile(f"{address}/x.zip", len(content), hashlib.sha256(content).hexdigest(), "a test")
    monkeypatch.setitem(ladic.datamodules.downloads.DOWNLOADS, "tiny", RemoteData("a tiny one", (file,), "be glad"))
    handler.address, handler.content = address, content
    yield handler
    running.shutdown()
    running.server_close()


def test_a_download_is_checked_and_unpacked_and_not_done_twice(cli, tmp_path, server):
    words = ["data", "download", "tiny", "--output", tmp_path / "out"]
    done = cli(*words, "--unpack")
    assert done.code == 0, done.stderr
    assert "right by its sum" in done.stdout
    assert "then: be glad" in done.stdout
    assert (tmp_path / "out" / "inside" / "a.txt").read_text() == "hello" * 1000
    assert "there already" in cli(*words).stdout
    assert len(server.asked) == 1
    (tmp_path / "out" / "x.zip").write_bytes(b"damaged")
    assert "its SHA-256 is not" in error_line(cli(*words).stderr)


def test_a_download_that_breaks_off_goes_on_there(cli, tmp_path, server):
    server.most = 100
    words = ["data", "download", "tiny", "--output", tmp_path / "out"]
    line = error_line(cli(*words).stderr)
    assert f"the connection ended after 100 of {len(server.content)} bytes" in line
    assert "the same command goes on there" in line
    server.most = 1 << 30
    assert cli(*words).code == 0
    assert server.asked == [("/data/x.zip", 0), ("/data/x.zip", 100)]


def test_a_server_that_can_not_resume_begins_anew(cli, tmp_path, server):
    server.resumes = False
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x.zip.part").write_bytes(b"something else")
    assert cli("data", "download", "tiny", "--output", tmp_path / "out").code == 0


def test_wrong_bytes_are_put_aside_and_mirrors_are_tried(cli, tmp_path, server):
    server.files["/bad/x.zip"] = bytes(len(server.content))
    bad, gone = server.address.replace("/data", "/bad"), server.address.replace("/data", "/gone")
    words = ["data", "download", "tiny", "--output", tmp_path / "out", "--mirror", gone, "--mirror", bad]
    assert cli(*words).code == 0
    assert [path for path, _ in server.asked] == ["/gone/x.zip", "/bad/x.zip", "/data/x.zip"]
    assert (tmp_path / "out" / "x.zip.wrong").exists()
    server.files.pop("/data/x.zip")
    (tmp_path / "out" / "x.zip").unlink()
    line = error_line(cli(*words).stderr)
    assert "its SHA-256 is" in line
    assert "HTTP Error 404" in line or "Not Found" in line


def test_what_does_not_fit_on_the_disk_is_not_begun(cli, tmp_path, server, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10))
    line = error_line(cli("data", "download", "tiny", "--output", tmp_path / "out").stderr)
    assert "GB are free; give a folder on another disk" in line
    assert server.asked == []


def test_the_list_says_sizes_sums_and_what_to_do_by_hand(cli):
    done = cli("data", "download")
    assert done.code == 0
    for word in ("coco", "paragraphs", "flickr30k", "train2014.zip  13.51 GB", "ede4087e640bddba", "by hand"):
        assert word in done.stdout


def test_an_archive_that_leads_out_of_its_folder_is_not_unpacked(tmp_path):
    from ladic.cli.data import unpack
    from ladic.errors import UsageError

    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("../evil.txt", "x")
    with pytest.raises(UsageError, match=r"'\.\./evil\.txt' in it leaves the folder"):
        unpack(tmp_path / "evil.zip")
    (tmp_path / "cut.zip").write_bytes(b"PK\x03\x04")
    with pytest.raises(UsageError, match="not a whole zip"):
        unpack(tmp_path / "cut.zip")
