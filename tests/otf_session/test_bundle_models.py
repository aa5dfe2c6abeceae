"""Files of torch, read without torch and without executing anything in them."""

import io
import pickle
import struct
import zipfile

import pytest
from otf_session.bundles.exporter import export_session
from otf_session.bundles.importer import import_bundle
from otf_session.bundles.pickles import BadPickle, Call, Global, read, write
from otf_session.bundles.weights import NotLoadable, TorchFile
from otf_session.home import Home

from ..helpers.bundles import contents, members_of, saved
from ..helpers.sessions import RUN, make_session, started
from ..helpers.torchfiles import checkpoint, hostile, tensor, torch_file, torch_file_of

_MODEL = f"final_models/{RUN}-final.pt"


@pytest.fixture
def folder(home):
    """A session whose final checkpoint is one of torch's."""
    store = make_session(home, started())
    store.append(
        [
            saved(store, 0, "initial", content=checkpoint()),
            saved(store, 7, "final", content=checkpoint(epoch=2)),
        ]
    )
    store.close()
    return store.folder


def loaded(text):
    """A torch file's pickle, and the memory of its tensors."""
    with zipfile.ZipFile(io.BytesIO(text)) as archive:
        prefix = "archive/"
        value = read(archive.read(f"{prefix}data.pkl")).value
        memory = {
            name[len(prefix) + 5 :]: struct.unpack(f"<{len(data) // 4}f", data)
            for name, data in ((name, archive.read(name)) for name in archive.namelist())
            if name.startswith(f"{prefix}data/")
        }
    return value, memory


def test_a_final_model_is_the_weights_alone(folder, tmp_path):
    made = export_session(folder, tmp_path, final_models=True)
    assert (made.checkpoints, made.final_models, made.notes) == (2, 1, [])
    value, memory = loaded(members_of(made.path)[_MODEL])
    assert list(value) == ["weight", "bias"]
    assert str(value["weight"].function) == "torch._utils._rebuild_tensor_v2"
    assert memory == {"0": (1.0, 2.0, 3.0), "1": (4.0,)}


def test_the_memory_of_tensors_lies_where_torch_maps_it(folder, tmp_path):
    made = export_session(folder, tmp_path, final_models=True)
    text = members_of(made.path)[_MODEL]
    with zipfile.ZipFile(io.BytesIO(text)) as archive:
        for info in archive.infolist():
            name, extra = struct.unpack("<HH", text[info.header_offset + 26 :][:4])
            assert (info.header_offset + 30 + name + extra) % 64 == 0, info.filename
            assert info.compress_type == zipfile.ZIP_STORED


def test_a_final_model_comes_also_without_its_checkpoint(folder, tmp_path):
    made = export_session(folder, tmp_path, checkpoints="none", final_models=True)
    assert (made.checkpoints, made.final_models) == (0, 1)
    elsewhere = Home(tmp_path / "elsewhere")
    imported = import_bundle(elsewhere, tmp_path / made.path)
    assert imported.final_models == 1
    one = contents(elsewhere.sessions / imported.session)
    again = export_session(elsewhere.sessions / imported.session, tmp_path / "b", final_models=True)
    assert members_of(again.path)[_MODEL] == one[_MODEL]


def test_a_final_model_of_a_damaged_checkpoint_is_left_out_and_said(folder, tmp_path):
    path = folder / f"checkpoints/{RUN}-7-final.pt"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    made = export_session(folder, tmp_path, checkpoints="none", final_models=True)
    assert made.final_models == 0
    one, other = made.notes
    assert "SHA-256" in one
    assert f"No model of the run {RUN}" in other


def test_torch_loads_the_very_weights(home, tmp_path):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.BatchNorm1d(7)).half()
    tied = torch.nn.Linear(3, 3)
    state = {
        **model.state_dict(),
        "tied": tied.weight,
        "view": tied.weight[1],
        "empty": torch.empty(0, 4),
        "number": 2**40,
        "text": "größer",
        "flags": torch.tensor([True, False]),
    }
    written = io.BytesIO()
    torch.save({"model": state, "optimizer": {"big": torch.zeros(100_000)}}, written)
    store = make_session(home, started())
    store.append([saved(store, 1, "final", content=written.getvalue())])
    store.close()
    text = members_of(export_session(store.folder, tmp_path, final_models=True).path)[_MODEL]
    assert len(text) < 20_000
    found = torch.load(io.BytesIO(text), weights_only=True)
    assert list(found) == list(state)
    for name, value in state.items():
        if isinstance(value, torch.Tensor):
            assert found[name].dtype == value.dtype
            assert torch.equal(found[name], value), name
        else:
            assert found[name] == value
    assert found["tied"].untyped_storage().data_ptr() == found["view"].untyped_storage().data_ptr()


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, -1, 2**31, -(2**70), 1.5, True, False, None, "tëxt \ud800", b"bytes", ()]},
        {"nested": [({"x": (1, 2)}, []), [[]], {}]},
        Call(Global("collections", "OrderedDict"), ()),
    ],
)
def test_what_is_written_is_read_as_it_was(value):
    found = read(write(value)).value
    if isinstance(value, Call):
        assert (found.function, found.args) == (value.function, value.args)
    else:
        assert found == value


@pytest.mark.parametrize(
    "value",
    [
        {"a": 1, "b": [1.5, "x", (1, 2, 3, 4)], "c": {"d": None}},
        [{"same": 1}] * 3,
        tuple(range(300)),
        {},
        [],
    ],
)
def test_what_python_pickles_is_read(value):
    assert read(pickle.dumps(value, protocol=2)).value == value


def test_nothing_is_executed(tmp_path):
    mark = tmp_path / "executed"
    data = hostile(f"touch {mark}")
    with pytest.raises(NotLoadable, match="would run .*system"):
        TorchFile(io.BytesIO(data))
    assert not mark.exists()
    # It would have been.
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        pickle.loads(archive.read("archive/data.pkl"))
    assert mark.exists()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\x80\x02",
        b"\x80\x02.",
        b"\x80\x02}",
        b"\x80\x02]a.",
        b"\x80\x02}K\x01s.",
        b"\x80\x02h\x05.",
        b"\x80\x02(t",
        b"\x80\x02t.",
        b"\x80\x02K\x01K\x02.",
        b"\x80\x02R.",
        b"\x80\x02X\xff\xff\xff\xffx.",
        b"\x80\x02}]K\x01s.",
        b"I1\n.",
        b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00N.",
        pickle.dumps({"x": bytearray(3)}, protocol=5),
        b"cos\nsystem\n(S'true'\ntR.",
        b"\x80\x02\x82\x01.",
    ],
)
def test_what_is_no_pickle_of_a_checkpoint_is_said(text):
    with pytest.raises(BadPickle):
        read(text)


def test_a_value_without_end_is_not_written():
    # A list in itself, and one that doubles a hundred times.
    with pytest.raises(BadPickle, match="without end"):
        write(read(b"\x80\x02]q\x00h\x00a.").value)
    with pytest.raises(BadPickle, match="more than any checkpoint"):
        write(read(doubled(40)).value)


def doubled(depth):
    """Pairs of pairs: 2 to the power of `depth` values in a few bytes."""
    return b"\x80\x02K\x01q\x00" + b"h\x00\x86q\x00" * depth + b"."


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no zip file",
        torch_file_of(b"", {}),
        torch_file_of(b"\x80\x02}.", {})[:-30],
        torch_file({"model": Call(Global("os", "system"), ("x",))}, {}),
        torch_file({"model": Call(Global("builtins", "eval"), ("x",))}, {}),
        torch_file({"model": Call(Global("torch.hub", "load"), ("x",))}, {}),
    ],
)
def test_what_would_not_load_safely_is_said(data):
    with pytest.raises(NotLoadable):
        TorchFile(io.BytesIO(data))


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ({"optimizer": 1}, "has no 'model'"),
        ([1], "has no 'model'"),
        ({"model": {"w": tensor("9", 3)}}, "cannot be read"),
    ],
)
def test_a_checkpoint_without_a_whole_model_is_said(value, why):
    with pytest.raises(NotLoadable, match=why):
        TorchFile(io.BytesIO(torch_file(value, {}))).part("model")
