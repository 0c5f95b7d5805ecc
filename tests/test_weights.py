"""Laws of pre-trained weights: all or nothing, what fits is set exactly, what does not is named in one line."""

import gzip
import hashlib
import os
import pickle
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from xbench.errors import XbenchError
from xbench.weights import load_weights, weights_sha256


def net(classes=3, seed=0):
    torch.manual_seed(seed)
    parts = {
        "conv": nn.Conv2d(1, 4, 3),
        "norm": nn.BatchNorm2d(4),
        "flatten": nn.Flatten(),
        "fc": nn.Linear(4, classes),
    }
    module = nn.Sequential()
    for name, part in parts.items():
        module.add_module(name, part)
    module.norm.running_mean.normal_()
    return module


def copied(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(one, other, names=None):
    return all(torch.equal(one[name], other[name]) for name in names or one)


def refused(path, match, module=None, **how):
    """Assert that the file is refused in one line and nothing is set."""
    module = module or net(seed=1)
    before = copied(module)
    with pytest.raises(XbenchError, match=match) as caught:
        load_weights(module, str(path), **how)
    assert len(caught.value.lines) == 1
    assert "\n" not in caught.value.lines[0]
    assert same(before, module.state_dict())
    return caught.value.lines[0]


def test_none_leaves_the_network_as_built():
    module = net()
    before = copied(module)
    assert load_weights(module, "none", published=lambda: pytest.fail("nothing was asked for")) is None
    assert same(before, module.state_dict())


@pytest.mark.parametrize("wrapper", ["", "state_dict", "model_state_dict", "model"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_torch_file_sets_every_tensor(tmp_path, wrapper, zipped):
    source, module, path = net(), net(seed=1), tmp_path / "w.pt"
    state = {"epoch": 3, wrapper: source.state_dict()} if wrapper else source.state_dict()
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    loaded = load_weights(module, str(path))
    assert same(source.state_dict(), module.state_dict())
    assert loaded.names == tuple(source.state_dict())
    assert loaded.kept == ()
    assert loaded.source == str(path)
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest() == weights_sha256(str(path))
    assert loaded.summary == f"9 tensors loaded from {path} (SHA-256 {loaded.sha256[:12]})"


def test_a_safetensors_file_sets_every_tensor(tmp_path):
    source, module, path = net(), net(seed=1), tmp_path / "w.safetensors"
    save_file(source.state_dict(), path)
    loaded = load_weights(module, str(path))
    assert same(source.state_dict(), module.state_dict())
    assert loaded.sha256 == weights_sha256(str(path))


def test_half_precision_is_widened_to_the_networks(tmp_path):
    source, module, path = net(), net(seed=1), tmp_path / "w.pt"
    torch.save({name: value.half() for name, value in source.state_dict().items()}, path)
    load_weights(module, str(path))
    assert module.fc.weight.dtype == torch.float32
    torch.testing.assert_close(module.fc.weight, source.fc.weight, atol=1e-3, rtol=1e-3)


def test_relative_paths_start_at_the_working_folder_and_the_tilde_is_home(tmp_path, monkeypatch):
    torch.save(net().state_dict(), tmp_path / "imagenet")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for written in ("./imagenet", "~/imagenet"):
        module = net(seed=1)
        assert load_weights(module, written).source == str(tmp_path / "imagenet")
        assert same(net().state_dict(), module.state_dict())
        assert weights_sha256(written)


def test_a_prefix_that_all_names_share_is_left_out(tmp_path):
    source, module, path = net(), net(seed=1), tmp_path / "w.pt"
    torch.save({f"module.{name}": value for name, value in source.state_dict().items()}, path)
    loaded = load_weights(module, str(path))
    assert same(source.state_dict(), module.state_dict())
    assert loaded.names == tuple(source.state_dict())


def test_counts_of_batches_may_be_missing(tmp_path):
    source, module, path = net(), net(seed=1), tmp_path / "w.pt"
    module.norm.num_batches_tracked += 5
    state = copied(source)
    del state["norm.num_batches_tracked"]
    torch.save(state, path)
    load_weights(module, str(path))
    assert same(state, module.state_dict(), state)
    assert module.norm.num_batches_tracked == 5


@pytest.mark.parametrize("classes", [3, 4, None])
def test_a_head_is_loaded_where_it_fits_and_left_as_built_where_it_does_not(tmp_path, classes):
    source, module, path = net(classes or 3), net(seed=1), tmp_path / "w.pt"
    built = copied(module)
    state = {name: value for name, value in source.state_dict().items() if classes or not name.startswith("fc.")}
    torch.save(state, path)
    loaded = load_weights(module, str(path), head=("fc.",))
    head = ("fc.weight", "fc.bias")
    assert same(source.state_dict() if classes == 3 else built, module.state_dict(), head)
    assert same(source.state_dict(), module.state_dict(), ("conv.weight", "norm.running_mean"))
    assert loaded.kept == (() if classes == 3 else head)
    assert loaded.summary.endswith(")" if classes == 3 else "; fc.weight, fc.bias left as built")
    if classes != 3:
        refused(path, "fc.weight")


def test_a_head_of_which_one_tensor_does_not_fit_is_left_whole(tmp_path):
    source, module, path = net(), net(seed=1), tmp_path / "w.pt"
    built = copied(module)
    torch.save({**source.state_dict(), "fc.bias": torch.zeros(4)}, path)
    assert load_weights(module, str(path), head=("fc.",)).kept == ("fc.weight", "fc.bias")
    assert same(built, module.state_dict(), ("fc.weight", "fc.bias"))


def test_a_file_with_nothing_but_a_head_is_refused(tmp_path):
    path = tmp_path / "w.pt"
    torch.save({"fc.weight": torch.zeros(9, 9)}, path)
    refused(path, "6 missing: conv.weight, conv.bias, norm.weight and 3 more", head=("fc.",))
    only = nn.Sequential()
    only.add_module("fc", nn.Linear(4, 3))
    refused(path, "nothing but a head", only, head=("fc.",))


def test_what_does_not_fit_is_named_with_a_count(tmp_path):
    path = tmp_path / "w.pt"
    state = copied(net())
    for name in ("norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"):
        state["other." + name] = state.pop(name)
    state["fc.weight"] = torch.zeros(5, 4)
    torch.save(state, path)
    line = refused(path, "do not fit the network")
    assert line == (
        f"weights={path} do not fit the network: "
        "4 missing: norm.weight, norm.bias, norm.running_mean and 1 more; "
        "4 too much: other.norm.weight, other.norm.bias, other.norm.running_mean and 1 more; "
        "1 of another shape: fc.weight [5, 4] where the network has [3, 4]"
    )


def test_weights_that_are_not_finite_are_refused(tmp_path):
    path = tmp_path / "w.pt"
    torch.save({**net().state_dict(), "conv.bias": torch.full((4,), torch.nan)}, path)
    refused(path, "not finite numbers in conv.bias")


def test_a_file_that_is_none_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "locked").write_bytes(b"")
    for written, match in (("gone.pt", f"there is no file {tmp_path}/gone.pt"), (".", "is a folder")):
        refused(written, match)
        with pytest.raises(XbenchError, match=match):
            weights_sha256(written)
    assert weights_sha256("none") is None
    assert weights_sha256("imagenet") is None


def test_a_changed_file_under_the_same_path_has_another_sha256(tmp_path):
    path = tmp_path / "w.pt"
    found = []
    for seed in (0, 1):
        torch.save(net(seed=seed).state_dict(), path)
        os.utime(path, ns=(0, seed))
        found.append(weights_sha256(str(path)))
        assert found[-1] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found[0] != found[1]


def zipped_state(tmp_path):
    torch.save(net().state_dict(), tmp_path / "whole.pt")
    return (tmp_path / "whole.pt").read_bytes()


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
@pytest.mark.parametrize("what", ["empty", "text", "html", "half", "gzip", "pickle"])
def test_a_file_that_holds_something_else_is_no_weights_file(tmp_path, name, what):
    whole = zipped_state(tmp_path)
    raw = {
        "empty": b"",
        "text": b"hello, these are no weights at all" * 9,
        "html": b"<html><body>404 not found</body></html>",
        "half": whole[: len(whole) // 2],
        "gzip": gzip.compress(whole),
        "pickle": pickle.dumps(object()),
    }[what]
    (tmp_path / name).write_bytes(raw)
    refused(tmp_path / name, "is no weights file|is refused")


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {"state_dict": {}}, torch.zeros(3)])
def test_a_torch_file_without_a_state_dict_is_told(tmp_path, content):
    torch.save(content, tmp_path / "w.pt")
    refused(tmp_path / "w.pt", "a state dict")


class Hostile:
    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_hostile_pickle_is_refused_and_does_nothing(tmp_path, wrapped):
    hostile = Hostile()
    hostile.path = str(tmp_path / "made")
    torch.save({"state_dict": hostile, "x": 1} if wrapped else hostile, tmp_path / "w.pt")
    refused(tmp_path / "w.pt", "is refused: it holds posix.mkdir, and only tensors are safe")
    assert not (tmp_path / "made").exists()


def test_a_whole_pickled_network_is_refused_with_the_way_out(tmp_path):
    torch.save(net(), tmp_path / "w.pt")
    refused(tmp_path / "w.pt", r"holds torch.nn.*Sequential.*torch.save\(network.state_dict\(\), PATH\)")


def test_imagenet_takes_the_published_weights_under_the_networks_names():
    source, module = net(1000), net(seed=1)
    loaded = load_weights(
        module,
        "imagenet",
        published=lambda: {f"old_{name}": value for name, value in source.state_dict().items()},
        head=("fc.",),
        rename=lambda name: name.removeprefix("old_"),
    )
    assert same(source.state_dict(), module.state_dict(), ("conv.weight", "norm.running_mean"))
    assert loaded.source == "imagenet"
    assert loaded.kept == ("fc.weight", "fc.bias")
    assert len(loaded.sha256) == 64
    other = load_weights(net(), "imagenet", published=net(1000, seed=2).state_dict, head=("fc.",))
    assert loaded.sha256 != other.sha256


@pytest.mark.parametrize("error", [OSError("no route to host\nand more"), RuntimeError("invalid hash"), TimeoutError()])
def test_imagenet_that_cannot_be_fetched_is_told_with_the_way_out(error):
    def fail():
        raise error

    line = refused("imagenet", "could not be fetched", published=fail)
    assert "weights=PATH takes a local file" in line
    assert (str(error).partition("\n")[0] or "TimeoutError") in line


def test_imagenet_of_a_network_without_published_weights_is_told():
    refused("imagenet", "no published weights; weights=PATH takes a local file")


def test_the_sha256_needs_no_torch(tmp_path):
    path = tmp_path / "w.pt"
    path.write_bytes(b"x")
    code = f"import sys; from xbench.weights import *; assert weights_sha256({str(path)!r}); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
