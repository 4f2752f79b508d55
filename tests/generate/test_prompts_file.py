"""The file of ``--prompts``: what is read, what is refused, and how much memory a million lines take."""

import pickle
import subprocess
import sys

import pytest

from genrep.errors import RecipeError
from genrep.generate.recipes.prompts import read_prompts


def write(tmp_path, data, name="prompts.txt"):
    path = tmp_path / name
    path.write_bytes(data)
    return path


def rows(prompts):
    return [
        (prompts[row], prompts.groups[number] if number >= 0 else None)
        for row, number in enumerate(prompts.group_numbers.tolist())
    ]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.txt", "a cat\n  two  spaces \nx\ta dog\ny\tein Häuschen 家\nx\tan ox"),
        ("a.txt", "a cat\r\n  two  spaces \r\nx\ta dog\r\ny\tein Häuschen 家\r\nx\tan ox\r\n"),
        ("a.txt", "\ufeffa cat\n\n  two  spaces \n \nx\ta dog\ny\tein Häuschen 家\nx\tan ox\n"),
        (
            "a.jsonl",
            '{"prompt": "a cat"}\n{"prompt": "  two  spaces "}\n{"group": "x", "prompt": "a dog"}\n'
            '{"prompt": "ein H\\u00e4uschen 家", "group": "y"}\n{"group": "x", "prompt": "an ox"}\n',
        ),
    ],
    ids=["text", "crlf", "bom-and-empty", "json"],
)
def test_every_form_gives_the_same_prompts(tmp_path, name, data):
    prompts = read_prompts(write(tmp_path, data.encode(), name))
    wanted = [("a cat", None), ("  two  spaces ", None), ("a dog", "x"), ("ein Häuschen 家", "y"), ("an ox", "x")]
    assert rows(prompts) == wanted and prompts.groups == ("x", "y")
    assert rows(pickle.loads(pickle.dumps(prompts))) == wanted


def test_empty_lines_and_repeats_are_counted_and_said(tmp_path, capsys):
    prompts = read_prompts(write(tmp_path, b"a\n\nb\na\nx\ta\n\n"))
    assert [text for text, _ in rows(prompts)] == ["a", "b", "a", "a"]
    assert "4 prompts; 2 empty lines skipped, 1 lines repeat an earlier one" in capsys.readouterr().err
    read_prompts(write(tmp_path, b"a\nb\n"))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.txt", b"", "holds no prompts"),
        ("a.txt", b"\n\r\n \n", "holds no prompts"),
        ("a.txt", b"a\nb\0c\n", r"line 2: the prompt is 'b\\x00c': holds the control character \\x00"),
        ("a.txt", b"a\n\x1b[31mred\n", r"line 2: the prompt is '\\x1b\[31mred': holds the control character"),
        ("a.txt", "a\u202eb\n".encode(), r"control character \\u202e"),
        ("a.txt", "a\u2028b\n".encode(), r"control character \\u2028"),
        ("a.txt", b"x\ty\tz\n", r"line 1: the group is 'x\\ty': holds the control character \\t"),
        ("a.txt", b"x\t\n", "line 1: the prompt is '', wanted a text"),
        ("a.txt", b"\ta\n", "line 1: the group is '', wanted a text"),
        ("a.txt", b"\r\ra cat\nb\n", r"line 1: the prompt is '\\r\\ra cat': holds the control character \\r"),
        ("a.txt", b"a\rb\rc", r"line 1: .*holds the control character \\r"),
        ("a.txt", b"a\n\xff\xfe\n", r"line 2: b'\\xff\\xfe', wanted UTF-8"),
        ("a.txt", b"a" * 10_001 + b"\n", "line 1: the prompt is 10,001 characters, wanted at most 10,000"),
        ("a.txt", b"a\n" + b"b" * 1_000_000 + b"\n", "line 2: more than 65536 bytes"),
        ("a.jsonl", b'{"prompt": "a"}\n["b"]\n', "line 2: .*wanted an object like"),
        ("a.jsonl", b'{"prompt": 3}\n', "line 1: the prompt is 3, wanted a text"),
        ("a.jsonl", b'{"prompt": "a", "seed": 3}\n', "line 1: .*wanted an object like"),
        ("a.jsonl", b'{"prompt": "\\ud800"}\n', r"control character \\ud800"),
        ("a.jsonl", b"[" * 60_000 + b"\n", "line 1: .*wanted an object like"),
    ],
)
def test_hostile_files_are_refused_in_one_line_that_names_the_line(tmp_path, name, data, message):
    with pytest.raises(RecipeError, match=message) as error:
        read_prompts(write(tmp_path, data, name))
    text = str(error.value)
    assert text.startswith(f"prompts {tmp_path / name}: ") and len(text) < 400 and text.isprintable()


def test_more_names_of_groups_than_a_manifest_can_hold_are_refused_before_anything_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr("genrep.generate.recipes.prompts.MAX_GROUP_BYTES", 12)
    assert read_prompts(write(tmp_path, b"g1\ta\ng1\tb\ng2\ta\n")).groups == ("g1", "g2")
    with pytest.raises(RecipeError, match="line 3: the names of 3 groups are more than 12 bytes together"):
        read_prompts(write(tmp_path, b"g1\ta\ng2\ta\ng3\ta\n"))


def test_no_pipe_or_folder_is_read(tmp_path):
    for path in (tmp_path, tmp_path / "missing.txt"):
        with pytest.raises(RecipeError, match=str(path)):
            read_prompts(path)


def test_a_file_that_changes_is_noticed_or_read_within_its_old_places(tmp_path):
    path = write(tmp_path, b"a cat\na dog\n")
    prompts = read_prompts(path)
    path.write_bytes(b"a")
    with pytest.raises(RecipeError, match="changed since it was read"):
        prompts[1]


MILLION = """
import resource, sys
from genrep.generate.recipes.prompts import read_prompts
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
prompts = read_prompts(sys.argv[1])
print(len(prompts), prompts[999_999], (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
def test_a_million_prompts_take_little_memory(tmp_path):
    path = tmp_path / "prompts.txt"
    with open(path, "w") as file:
        file.writelines(
            f"class {i % 1000}\ta photograph number {i} of what the class is called, {'x' * 100}\n"
            for i in range(1_000_000)
        )
    done = subprocess.run([sys.executable, "-c", MILLION, path], capture_output=True, text=True, check=True)
    count, *text, megabytes = done.stdout.split()
    assert count == "1000000" and text[3] == "999999"
    assert int(megabytes) < 90  # the file has 160
