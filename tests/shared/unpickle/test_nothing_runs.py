"""Files that run code when they are unpickled are inert records or are refused; nothing is imported, called or looked up."""

import copyreg
import io
import pickle
import struct
import sys
import zipfile

import pytest
import torch

from genrep.errors import WeightsError
from genrep.unpickle import Global, Opaque, read_file

FORBIDDEN = {
    "exec",
    "compile",
    "import",
    "open",
    "os.system",
    "os.posix_spawn",
    "subprocess.Popen",
    "pickle.find_class",
}
EXTENSION = 0xF0
armed = []


def listen(event, args):
    if armed and event in FORBIDDEN:
        armed[-1].append((event, str(args[0])))


sys.addaudithook(listen)  # Python has no way to take it away again: it is idle unless armed


@pytest.fixture
def inert(tmp_path):
    """Reads bytes while Python reports what it does. Returns the object, or the error."""
    path = tmp_path / "evil.bin"
    path.write_bytes(pickle.dumps(torch.ones(1)))
    read_file(path)  # imports what we need ourselves

    def inert(content):
        path.write_bytes(content)
        modules, events = set(sys.modules), []
        armed.append(events)
        try:
            found = read_file(path)
        except WeightsError as error:
            found = error
        finally:
            armed.pop()
        assert set(events) <= {("open", str(path))}
        assert set(sys.modules) == modules
        if isinstance(found, WeightsError):
            assert "\n" not in str(found)
            assert len(str(found)) < len(str(path)) + 300
        return found

    return inert


def text(value):
    """The operation that pushes text, in protocols 1 to 5."""
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def legacy(*, magic=b"", version=b"M\xe9\x03", system=b"}", value=b"N", keys=b"]"):
    """A file of torch's older format from the operations of each of its pickles."""
    magic = magic or b"\x8a\x0a" + (0x1950A86A20F9469CFC6C).to_bytes(10, "little")
    return b"".join(b"\x80\x02" + part + b"." for part in (magic, version, system, value, keys))


def nested(content):
    return b"\x80\x03ctorch.storage\n_load_from_bytes\nB" + struct.pack("<I", len(content)) + content + b"\x85R."


def archive(pickled, **records):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("archive/data.pkl", pickled)
        file.writestr("archive/version", b"3")
        for name, content in records.items():
            file.writestr(f"archive/{name.replace('_', '/')}", content)
    return buffer.getvalue()


def storage_id(kind=b"ctorch\nFloatStorage\n", name="0", count=b"K\x01"):
    return b"(" + text("storage") + kind + text(name) + text("cpu") + count + b"t"


def attacks(marker):
    """Files by name; each creates ``marker`` in torch.load(weights_only=False), or at least in pickle.loads."""
    code, command = text(f"open({str(marker)!r}, 'w').close()"), text(f"touch {marker}")
    call = b"cbuiltins\neval\n" + code + b"\x85R"
    import_os = b"cbuiltins\n__import__\n" + text("os") + b"\x85R"
    return {
        "os.system": b"\x80\x02cos\nsystem\n" + command + b"\x85R.",
        "protocol 0": b"cposix\nsystem\n(V" + f"touch {marker}".encode() + b"\ntR.",
        "eval": b"\x80\x02" + call + b".",
        "exec": b"\x80\x02cbuiltins\nexec\n" + code + b"\x85R.",
        "open": b"\x80\x02cbuiltins\nopen\n" + text(str(marker)) + text("w") + b"\x86R.",
        "instance": b"(" + command + b"ios\nsystem\n.",
        "object": b"(cos\nsystem\n" + command + b"o.",
        "stack global": b"\x80\x04" + text("os") + text("system") + b"\x93" + command + b"\x85R.",
        "dotted name": b"\x80\x04" + text("os") + text("path.os.system") + b"\x93" + command + b"\x85R.",
        "getattr chain": b"\x80\x02cbuiltins\ngetattr\n" + import_os + text("system") + b"\x86R" + command + b"\x85R.",
        "method caller": b"\x80\x02coperator\nmethodcaller\n"
        + text("system")
        + command
        + b"\x86R"
        + import_os
        + b"\x85R.",
        "state of a partial": b"\x80\x02cfunctools\npartial\ncbuiltins\nprint\n\x85R(cbuiltins\neval\n"
        + code
        + b"\x85}Ntb)R.",
        "extension": b"\x80\x02\x82" + bytes([EXTENSION]) + command + b"\x85R.",
        "pickle in a pickle": b"\x80\x03cpickle\nloads\nC" + bytes([len(call) + 3]) + b"\x80\x02" + call + b".\x85R.",
        "in a dictionary": b"\x80\x02}" + text("g_ema") + call + b"s.",
        "dropped": b"\x80\x02" + call + b"0}.",
        "as a key": b"\x80\x02}" + call + b"Ns.",
        "memoised": b"\x80\x02cbuiltins\neval\nq\x00" + code + b"\x85q\x010h\x00h\x01R.",
        "list of a map": b"\x80\x02cbuiltins\nlist\ncbuiltins\nmap\ncbuiltins\neval\n" + code + b"\x85\x86R\x85R.",
        "set of a map": b"\x80\x02cbuiltins\nset\ncbuiltins\nmap\ncbuiltins\neval\n" + code + b"\x85\x86R\x85R.",
        "legacy": legacy(value=call),
        "legacy system": legacy(system=call),
        "legacy version": legacy(version=call),
        "legacy keys": legacy(keys=call),
        "nested magic": nested(legacy(magic=call)),
        "nested": nested(legacy(value=call)),
        "nested twice": nested(legacy(value=nested(legacy(value=call))[2:-1])),
        "zip": archive(b"\x80\x02" + call + b"."),
        "storage class": archive(b"\x80\x02" + storage_id(kind=call) + b"Q.", data_0=bytes(4)),
        "storage count": archive(b"\x80\x02" + storage_id(count=call) + b"Q.", data_0=bytes(4)),
        "class with source": legacy(value=b"(" + text("module") + call + text("a.py") + text("source") + b"tQ"),
        "rebuild from type": b"\x80\x02ctorch._tensor\n_rebuild_from_type_v2\n(cbuiltins\neval\ncbuiltins\nint\n"
        + code
        + b"\x85}tR.",
        "array of objects": b"\x80\x03cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\n" + text("O8") + b"\x89\x88\x87R"
        b"C" + bytes([len(call) + 3]) + b"\x80\x02" + call + b".\x86R.",
    }


NAMES = list(attacks("marker"))


@pytest.fixture
def extension():
    """Code EXTENSION stands for os.system in this process, as another library might have it."""
    copyreg.add_extension("os", "system", EXTENSION)
    yield
    copyreg.remove_extension("os", "system", EXTENSION)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_code_in_a_file_is_not_run(inert, extension, tmp_path, name):
    marker = tmp_path / "executed"
    content = attacks(marker)[name]
    inert(content)
    assert not marker.exists()
    try:  # the same file is a real attack on those who unpickle it
        if content[:2] == b"PK" or name.startswith(("legacy", "class with")):
            torch.load(io.BytesIO(content), weights_only=False)
        else:
            pickle.loads(content)
    except Exception:
        pass
    assert marker.exists() or name == "array of objects"


def test_calls_are_kept_as_records(inert, tmp_path):
    found = inert(attacks(tmp_path / "executed")["os.system"])
    assert isinstance(found, Opaque)
    assert (found.name, found.args) == ("os.system", (f"touch {tmp_path / 'executed'}",))
    chain = inert(attacks(tmp_path / "executed")["getattr chain"])
    assert chain.name == "<call>"
    assert chain.args[0].name == "builtins.getattr"
    assert chain.args[0].args[0].name == "builtins.__import__"


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (
            b"\x80\x04" + text("torch.nn") + text("Module.__globals__") + b"\x93.",
            "torch.nn.Module.__globals__",
        ),
        (b"cnowhere.to.be.found\nThing\n.", "nowhere.to.be.found.Thing"),
        (b"c__main__\nos\n.", "__main__.os"),
        (b"\x80\x02\x84\xff\xff\xff\x7f.", "copyreg.extension.2147483647"),
    ],
)
def test_names_are_not_looked_up(inert, content, name):
    found = inert(content)
    assert isinstance(found, Global)
    assert found.name == name


class Subclass(dict):
    """Would be told of every item and state."""

    def __setitem__(self, key, value):
        raise AssertionError

    def __setstate__(self, state):
        raise AssertionError


def test_methods_of_our_own_classes_are_not_called(inert):
    name = f"c{Subclass.__module__}\nSubclass\n".encode()
    found = inert(b"\x80\x02" + name + b")\x81" + text("a") + b"K\x01s}" + text("x") + b"K\x02sb.")
    assert (found.items, found.state) == ([("a", 1)], {"x": 2})
    # The reader's own classes are as foreign as any other.
    own = inert(b"\x80\x02cgenrep.unpickle.records\nOpaque\n" + text("x") + b"\x85R.")
    assert (own.name, own.args) == ("genrep.unpickle.records.Opaque", ("x",))


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02" + text("os.system") + text("touch x") + b"\x85R.",
        b"\x80\x02K\x05)R.",
        b"\x80\x02cos\nsystem\n" + text("touch x") + b"R.",
        b"\x80\x04cos\nsystem\n)K\x01\x92.",
        b"\x80\x02cos\nsystem\n}b.",
        b"\x80\x02cbuiltins\nset\ncos\nsystem\n\x85R.",
        b"\x80\x02c_codecs\nencode\n" + text("x") + text("rot13") + b"\x86R.",
        b"\x80\x02ccollections\nOrderedDict\n]]a\x85R.",
        b"\x80\x05\x97.",
        b"\x80\x05\x98.",
        b"Pstorage\n.",
        b"\x80\x02" + storage_id() + b"Q.",
        archive(b"\x80\x02K\x01Q.", data_0=bytes(4)),
        archive(b"\x80\x02" + storage_id(kind=b"cos\nsystem\n") + b"Q.", data_0=bytes(4)),
        archive(b"\x80\x02" + storage_id(kind=b"ctorch\nQInt8Storage\n") + b"Q.", data_0=bytes(4)),
        archive(b"\x80\x02" + storage_id(name="../data.pkl") + b"Q.", data_0=bytes(4)),
        archive(b"\x80\x02" + storage_id(name="/etc/passwd") + b"Q.", data_0=bytes(4)),
        archive(b"\x80\x02" + storage_id(count=b"K\x02") + b"Q.", data_0=bytes(4)),
        archive(b"\x80\x02" + storage_id(count=b"J\xff\xff\xff\xff") + b"Q.", data_0=bytes(4)),
        archive(b"\x80\x02" + storage_id() + storage_id(kind=b"ctorch\nIntStorage\n") + b"QQ.", data_0=bytes(4)),
        archive(b"\x80\x02" + storage_id() + b"Q.", byteorder=b"middle", data_0=bytes(4)),
        legacy(keys=b"]" + text("0") + b"a"),
        legacy(value=storage_id() + b"Q"),
        legacy(version=b"K\x01"),
        nested(b"\x80\x02N."),
        nested(nested(nested(nested(legacy())))),
    ],
)
def test_what_makes_no_sense_is_refused(inert, content):
    assert isinstance(inert(content), WeightsError)


def test_messages_stay_on_one_line_whatever_a_file_says(inert):
    evil = "\n\x1b[31mfine\r\n" * 300
    name = f"ctorch\n{evil.split(chr(10))[1]}Storage\n".encode()
    for content in (
        archive(b"\x80\x02" + storage_id(kind=name) + b"Q.", data_0=bytes(4)),
        archive(b"\x80\x02" + storage_id(name=evil[:150]) + b"Q."),
        b"\x80\x04" + text(evil) + text(evil) + b"\x93.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n" + text(evil) + b"\x85R.",
    ):
        error = inert(content)
        assert isinstance(error, WeightsError)
        assert str(error).isprintable()
