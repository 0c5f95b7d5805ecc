import gzip
import math
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from xbench.errors import XbenchError
from xbench.fits import FitContext
from xbench.models import Model
from xbench_mnist.datasets import digits, mnist
from xbench_mnist.idx import NAMES, find_idx, read_idx
from xbench_mnist.models import ACTIVATIONS, fit_s1, fit_s2, s1, s2, sigmoid_loss, sigmoid_softmax_loss

SPLITS = ("train", "valid", "test")
CLASSES = tuple("0123456789")


def idx(array, kind=0x08):
    head = struct.pack(f">HBB{array.ndim}I", 0, kind, array.ndim, *array.shape)
    return head + array.tobytes()


def made(n, seed=0):
    draw = np.random.default_rng(seed)
    return draw.integers(0, 256, (n, 28, 28), dtype=np.uint8), draw.integers(0, 10, n, dtype=np.uint8)


def write(folder, *, packed=False, counts=(24, 12), spelling=str):
    """Write the four files of a tiny MNIST and return their arrays by split file."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {}
    for (file, names), n in zip(NAMES.items(), counts, strict=True):
        arrays[file] = made(n, n)
        for name, array in zip(names, arrays[file], strict=True):
            raw = idx(array)
            path = folder / (spelling(name) + ".gz" * packed)
            path.write_bytes(gzip.compress(raw) if packed else raw)
    return arrays


def error_of(action):
    with pytest.raises(XbenchError) as caught:
        action()
    assert len(caught.value.lines) == 1
    return str(caught.value)


@pytest.mark.parametrize("shape", [(5,), (2, 3, 4), (0, 28, 28)])
def test_idx_gives_back_what_was_written(tmp_path, shape):
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    for name, raw in (("plain", idx(array)), ("packed.gz", gzip.compress(idx(array))), ("unpacked.gz", idx(array))):
        (tmp_path / name).write_bytes(raw)
        np.testing.assert_array_equal(read_idx(tmp_path / name, len(shape)), array)


IMAGES, LABELS = made(3)


@pytest.mark.parametrize(
    ("raw", "n_dims", "message"),
    [
        (b"", 3, "is truncated: 0 bytes are too few"),
        (idx(IMAGES)[:12], 3, "is truncated: 12 bytes are too few"),
        (idx(IMAGES)[:-1], 3, "is truncated: its head says 3 x 28 x 28 bytes of data, and it has 2351"),
        (idx(IMAGES) + b"x", 3, "is too long: its head says 3 x 28 x 28"),
        (idx(LABELS)[:-2], 1, "is truncated: its head says 3 bytes of data, and it has 1"),
        (idx(IMAGES), 1, "begins with 0x00000803 where an idx file of its name has 0x00000801"),
        (idx(np.zeros(20, np.uint8)), 3, "begins with 0x00000801 where an idx file of its name has 0x00000803"),
        (idx(IMAGES, kind=0x0D), 3, "begins with 0x00000d03 where"),
        (b"<!DOCTYPE html><html></html>", 3, "begins with 0x3c21444f where"),
        (gzip.compress(idx(IMAGES))[:-20], 3, "is a damaged gzip file"),
        (b"\x1f\x8b" + bytes(30), 3, "is a damaged gzip file"),
    ],
)
def test_damaged_idx_is_named_with_what_is_wrong(tmp_path, raw, n_dims, message):
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(raw)
    said = error_of(lambda: read_idx(path, n_dims))
    assert said.startswith(f"{path} ")
    assert message in said


def test_idx_files_are_found_packed_or_not_under_both_spellings(tmp_path):
    name = NAMES["train"][0]
    assert find_idx(tmp_path, name) is None
    for file in ("train-images.idx3-ubyte.gz", "train-images.idx3-ubyte", f"{name}.gz", name):
        (tmp_path / file).touch()
        assert find_idx(tmp_path, name) == tmp_path / file


@pytest.mark.parametrize("folder", ["", "raw", "MNIST/raw"])
@pytest.mark.parametrize("packed", [False, True])
def test_mnist_splits_hold_the_files_in_order(tmp_path, folder, packed):
    arrays = write(tmp_path / folder, packed=packed)
    data = mnist(tmp_path)
    parts = {split: data.index(split) for split in SPLITS}
    assert [len(parts[split]) for split in SPLITS] == [22, 2, 12]
    images, labels = arrays["train"]
    assert parts["valid"].ids == ("mnist-train-00022", "mnist-train-00023")
    assert parts["test"].ids[7] == "mnist-test-00007"
    assert parts["train"].groups == parts["train"].ids
    np.testing.assert_array_equal(parts["train"].labels, labels[:22])
    assert "holds 24 images; MNIST's has 60,000" in parts["train"].notes[0]
    samples = data.load(["mnist-train-00023", "mnist-test-00000", "mnist-train-00001"])
    want = np.stack([images[23], arrays["test"][0][0], images[1]])
    np.testing.assert_allclose(samples.image[:, 0], want / 255, atol=1e-7)
    np.testing.assert_array_equal(samples.mask, want > 127)
    assert samples.mask_class.tolist() == [-1] * 3
    assert samples.image.dtype == np.float32
    with pytest.raises(KeyError):
        data.load(["mnist-test-00012"])


def test_load_needs_no_index_before(tmp_path):
    arrays = write(tmp_path)
    np.testing.assert_allclose(mnist(tmp_path).load(["mnist-train-00023"]).image[0, 0], arrays["train"][0][23] / 255)
    assert mnist(tmp_path).load([]).image.shape == (0, 1, 28, 28)


def test_digest_is_of_the_content_and_not_of_the_packing(tmp_path):
    write(tmp_path / "a")
    write(tmp_path / "b", packed=True)
    first = {split: mnist(tmp_path / "a").index(split).digest for split in SPLITS}
    assert first == {split: mnist(tmp_path / "b").index(split).digest for split in SPLITS}
    assert len(set(first.values())) == 3
    images, _ = made(24, 24)
    images[5, 3, 3] ^= 1
    (tmp_path / "a" / NAMES["train"][0]).write_bytes(idx(images))
    assert mnist(tmp_path / "a").index("train").digest != first["train"]
    assert mnist(tmp_path / "a").index("test").digest == first["test"]


def test_files_that_do_not_fit_together_are_named(tmp_path):
    images, labels = (tmp_path / name for name in NAMES["test"])
    write(tmp_path)
    labels.write_bytes(idx(made(11)[1]))
    assert error_of(lambda: mnist(tmp_path).index("test")) == f"{images} holds 12 images but {labels} 11 labels"
    labels.write_bytes(idx(np.full(12, 10, np.uint8)))
    assert f"{labels} holds the label 10" in error_of(lambda: mnist(tmp_path).index("test"))
    images.write_bytes(idx(np.zeros((12, 32, 32), np.uint8)))
    assert "holds images of 32 x 32 pixels" in error_of(lambda: mnist(tmp_path).index("test"))
    images.unlink()
    assert f"{tmp_path} has no t10k-images-idx3-ubyte and no" in error_of(lambda: mnist(tmp_path).index("test"))
    assert len(mnist(tmp_path).index("train")) == 22


def test_folder_without_mnist_says_what_is_looked_for(tmp_path):
    message = error_of(lambda: mnist(tmp_path).index("test"))
    assert f"data.root={tmp_path} holds no MNIST files: t10k-images-idx3-ubyte[.gz]" in message
    assert "data.root=/no/such is not a folder" in error_of(lambda: mnist(Path("/no/such")).index("test"))


@pytest.mark.filterwarnings("ignore")
def test_without_root_mnist_is_read_from_xbench_data_then_from_the_cache_then_downloaded(tmp_path, monkeypatch):
    monkeypatch.setenv("XBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XBENCH_CACHE", str(tmp_path / "cache"))
    asked = []

    def download(root, download):
        asked.append(root)
        raise OSError("<urlopen error no route to host>")

    monkeypatch.setattr("torchvision.datasets.MNIST", download)
    message = error_of(lambda: mnist(None).index("test"))
    for part in ("no route to host", "data.root", "XBENCH_DATA", "data=mnist/digits needs no file"):
        assert part in message
    monkeypatch.setattr("torchvision.datasets.MNIST", lambda root, download: write(Path(root) / "MNIST/raw"))
    assert len(mnist(None).index("test")) == 12
    monkeypatch.setattr("torchvision.datasets.MNIST", None)
    assert len(mnist(None).index("test")) == 12
    write(tmp_path / "data/MNIST/raw", counts=(24, 13))
    assert len(mnist(None).index("test")) == 13
    assert asked == [str(tmp_path / "cache/data")]


def test_digits_splits_are_disjoint_stratified_and_fixed():
    indices = [digits(None).index(split) for split in SPLITS]
    assert [len(index) for index in indices] == [1102, 149, 546]
    assert len(set().union(*(index.ids for index in indices))) == 1797
    counts = np.stack([np.bincount(index.labels, minlength=10) for index in indices])
    shares = counts / counts.sum(axis=0)
    assert np.abs(shares - shares.mean(axis=1, keepdims=True)).max() < 0.005
    assert indices[2].ids[:3] == digits(None).index("test").ids[:3]
    assert len({index.digest for index in indices}) == 3
    assert indices[0].classes == CLASSES


def test_digits_are_the_bundled_ones_enlarged():
    from sklearn.datasets import load_digits

    data = digits()
    ids = data.index("test").ids
    samples = data.load(ids)
    assert samples.image.shape == (546, 1, 28, 28)
    assert samples.image.dtype == np.float32
    assert samples.image.min() == 0
    assert samples.image.max() == 1
    np.testing.assert_array_equal(samples.mask, samples.image[:, 0] > 0.5)
    assert 0.2 < samples.mask.mean() < 0.4
    assert samples.mask.any(axis=(1, 2)).all()
    bundle = load_digits()
    for name, label, image in zip(ids[:20], data.index("test").labels, samples.image[:, 0], strict=False):
        i = int(name.removeprefix("digits-"))
        assert bundle.target[i] == label
        small = bundle.images[i] / 16
        shrunk = image.reshape(4, 7, 4, 7).mean((1, 3))
        np.testing.assert_allclose(shrunk, small.reshape(4, 2, 4, 2).mean((1, 3)), atol=0.1)


def test_the_planner_needs_no_torch():
    code = "import sys, xbench_mnist.datasets; sys.exit(any(name in sys.modules for name in ('torch', 'sklearn')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def net(shape=(1, 28, 28), classes=CLASSES, head="fc_sigmoid_softmax"):
    torch.manual_seed(0)
    return s2(shape, classes, epochs=1, samples_per_epoch=100, head=head).eval()


@pytest.mark.parametrize("head", list(ACTIVATIONS))
def test_s2_has_the_shapes_of_the_papers_table(head):
    image, shapes = torch.rand(2, 1, 28, 28), {}
    model = net(head=head)
    for name, module in model.named_children():
        image = module(image)
        shapes[name] = tuple(image.shape[1:])
    assert shapes["relu1"] == (32, 26, 26)
    assert shapes["relu2"] == (64, 24, 24)
    assert shapes["pool"] == (64, 12, 12)
    assert shapes["flatten"] == (9216,)
    assert shapes["activation"] == (128,)
    assert shapes["dense2"] == (10,)
    assert sum(p.numel() for p in model.parameters()) == 320 + 18_496 + 1_179_776 + 1_290


def test_s2_is_explained_at_its_second_convolution_after_the_relu():
    model = Model(net())
    image = torch.rand(2, 1, 28, 28)
    assert model.default_layer(image) == "relu2"
    activation, logits = model.tap(image)
    assert activation.shape == (2, 64, 24, 24)
    assert activation.min() == 0
    assert logits.shape == (2, 10)


def test_s2_heads_differ_in_the_activation_of_the_dense_layer():
    image = torch.rand(3, 1, 28, 28)
    sigmoid, relu = (net(head=head) for head in ("fc_sigmoid_softmax", "relu"))
    before = sigmoid[:-3](image)
    torch.testing.assert_close(sigmoid(image), sigmoid.dense2(torch.sigmoid(before)))
    torch.testing.assert_close(relu(image), relu.dense2(torch.relu(before)))


def test_each_head_gives_the_probabilities_of_its_reading_and_is_trained_on_their_cross_entropy():
    z, label = torch.randn(5, 10, generator=torch.Generator().manual_seed(3)).double() * 4, torch.arange(5)
    rows = torch.arange(5)
    softmax, sigmoid, literal = (
        Model(net(head=head)).prob(z) for head in ("fc_sigmoid_softmax", "sigmoid_only", "sigmoid_softmax")
    )
    torch.testing.assert_close(softmax, z.softmax(1))
    torch.testing.assert_close(sigmoid, z.sigmoid())
    torch.testing.assert_close(literal, z.sigmoid().softmax(1))
    assert literal.max() < math.e / (math.e + 9)
    torch.testing.assert_close(sigmoid_softmax_loss(z, label), -literal[rows, label].log().mean())
    wanted = torch.nn.functional.one_hot(label, 10).bool()
    each = -torch.where(wanted, sigmoid, 1 - sigmoid).log()
    torch.testing.assert_close(sigmoid_loss(z, label), each.sum(1).mean())


def test_s2_fits_other_shapes_and_refuses_too_small_ones():
    assert net((3, 17, 30), ("a", "b"))(torch.rand(2, 3, 17, 30)).shape == (2, 2)
    assert net((1, 6, 6))(torch.rand(1, 1, 6, 6)).shape == (1, 10)
    with pytest.raises(ValueError, match="at least 6 x 6 pixels; these have 5 x 28"):
        net((1, 5, 28))
    with pytest.raises(ValueError, match="no head 'tanh'"):
        net(head="tanh")


def test_s1_has_three_layers_each_with_a_relu_of_its_own():
    image, shapes = torch.rand(2, 1, 28, 28), {}
    model = s1((1, 28, 28), CLASSES, epochs=1, samples_per_epoch=100).eval()
    for name, module in model.named_children():
        image = module(image)
        shapes[name] = tuple(image.shape[1:])
    assert shapes["relu1"] == (8, 24, 24)
    assert shapes["relu2"] == (16, 8, 8)
    assert shapes["relu3"] == (128,)
    assert shapes["dense2"] == (10,)
    assert [type(module) for module in model].count(torch.nn.ReLU) == 3
    assert Model(model).default_layer(torch.rand(1, 1, 28, 28)) == "relu2"


def test_s1_fits_other_shapes_and_refuses_too_small_ones():
    assert s1((3, 17, 30), ("a", "b"), epochs=1, samples_per_epoch=1)(torch.rand(2, 3, 17, 30)).shape == (2, 2)
    assert s1((1, 16, 16), CLASSES, epochs=1, samples_per_epoch=1)(torch.rand(1, 1, 16, 16)).shape == (1, 10)
    with pytest.raises(ValueError, match="at least 16 x 16 pixels; these have 15 x 28"):
        s1((1, 15, 28), CLASSES, epochs=1, samples_per_epoch=1)


def test_s1_learns_the_digits(tmp_path):
    data = digits(None)
    train, valid, test = (data.index(split) for split in SPLITS)
    torch.manual_seed(0)
    module = s1(train.shape, train.classes, epochs=4, samples_per_epoch=10_000)
    params = {"epochs": 4, "samples_per_epoch": 10_000}
    context = FitContext(data, train, valid, params, 0, torch.device("cpu"), tmp_path, lambda *_: None, module)
    module.load_state_dict(fit_s1(context))
    with torch.no_grad():
        right = module.eval()(torch.as_tensor(data.load(test.ids).image)).argmax(1) == torch.as_tensor(test.labels)
    assert right.float().mean() > 0.9


def fitted(data, folder, epochs, samples_per_epoch, seed=0, report=lambda done, total, text: None):
    folder.mkdir(exist_ok=True)
    train, valid = data.index("train"), data.index("valid")
    torch.manual_seed(seed)
    module = s2(train.shape, train.classes, epochs=epochs, samples_per_epoch=samples_per_epoch)
    params = {"epochs": epochs, "samples_per_epoch": samples_per_epoch, "head": "fc_sigmoid_softmax"}
    context = FitContext(data, train, valid, params, seed, torch.device("cpu"), folder, report, module)
    fit_s2(context)


def test_an_epoch_of_a_small_set_takes_every_image_twice(tmp_path):
    write(tmp_path, counts=(240, 12))
    data, steps, drawn = mnist(tmp_path), [], []
    fitted(data, tmp_path / "many", 1, 10_000, report=lambda done, total, text: steps.append(total))
    assert set(steps) == {5}  # 2 x 220 images in batches of 100
    fitted(data, tmp_path / "few", 2, 150, report=lambda done, total, text: drawn.append(total))
    assert set(drawn) == {4}


def real():
    above = os.environ.get("XBENCH_DATA")
    if not above or not (Path(above) / "MNIST").is_dir():
        pytest.skip("no $XBENCH_DATA/MNIST here")


@pytest.mark.realdata
def test_real_mnist_has_its_published_counts():
    real()
    data = mnist(None)
    indices = [data.index(split) for split in SPLITS]
    assert [len(index) for index in indices] == [55_000, 5_000, 10_000]
    assert not any(index.notes for index in indices)
    assert np.bincount(indices[2].labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    learning = np.concatenate([indices[0].labels, indices[1].labels])
    assert np.bincount(learning).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    samples = data.load(indices[2].ids[:1000])
    assert 0.08 < samples.mask.mean() < 0.15
    assert indices[2].labels[:5].tolist() == [7, 2, 1, 0, 4]
