import errno
import sys
from pathlib import Path
from types import ModuleType

import pytest

from authproxy.config import references
from authproxy.config.document import Item
from authproxy.config.references import References
from authproxy.malformed import ESCAPES

ENVIRON = {"NAME": "joe", "EMPTY": "", "DOLLAR": "a$b${NAME}"}


def resolve(text, directory=Path(), refs=None):
    faults = []
    item = (refs or References(directory, ENVIRON)).resolved(Item(text, "f", "key", 3, 7), faults)
    return item, [fault.message for fault in faults]


def value(text, directory=Path()):
    item, faults = resolve(text, directory)
    assert faults == []
    return item.value


def fault(text, directory=Path()):
    _, (found,) = resolve(text, directory)
    return found


@pytest.fixture
def keyring(monkeypatch):
    module = ModuleType("keyring")
    module.entries = {("my/service", "joe"): "from the keyring"}
    module.get_password = lambda service, user: module.entries.get((service, user))
    monkeypatch.setitem(sys.modules, "keyring", module)
    return module


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("plain", "plain"),
        ("${NAME}", "joe"),
        ("a ${NAME} and ${NAME}", "a joe and joe"),
        ("${EMPTY}", ""),
        ("${NOBODY:-}", ""),
        ("${NOBODY:-someone}", "someone"),
        ("${EMPTY:-someone}", "someone"),
        ("${NAME:-someone}", "joe"),
        ("${NOBODY:-a:-b}", "a:-b"),
        ("${NOBODY:-{a}}", "{a}"),
        ("${NOBODY:-${NAME}}", "joe"),
        ("$$", "$"),
        ("$${NAME}", "${NAME}"),
        ("$$${NAME}", "$joe"),
        ("$NAME", "$NAME"),
        ("5$ and $", "5$ and $"),
        ("${DOLLAR}", "a$b${NAME}"),  # what comes out of a reference is not looked into
    ],
)
def test_a_string_is_resolved(text, result):
    assert value(text) == result


@pytest.mark.parametrize("value_", [5, None, True, 1.5])
def test_what_is_no_string_is_left_alone(value_):
    assert value(value_) is value_


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "${NOBODY}",
            (
                "environment variable NOBODY is not set (reference ${NOBODY}); "
                "set it, or give a default: ${NOBODY:-…}"
            ),
        ),
        (
            "${NAMES}",
            "environment variable NAMES is not set (reference ${NAMES}); did you mean ${NAME}?",
        ),
        ("${env:NAME}", "an environment variable is written ${NAME}, without `env:`"),
        ("${NAME", "a reference ${ is not closed with }; write $${ for a literal ${"),
        ("${NAME:-{}", "a reference ${ is not closed with }; write $${ for a literal ${"),
        ("${keyring:service}", "a keyring reference should be ${keyring:SERVICE/USER}"),
        ("${command:}", "a command reference should be ${command:PROGRAM ARGS}"),
        ("${command:a 'b}", "a quotation mark is not closed (reference ${command:…})"),
        (
            "${command:/no/such x}",
            "the program cannot be run: No such file or directory (reference ${command:/no/such …})",
        ),
        (
            "${file:/no/such}",
            "the file cannot be read: No such file or directory (reference ${file:/no/such})",
        ),
        ("${file:/}", "the file cannot be read: Is a directory (reference ${file:/}); name a file in it"),
        (
            "${file:~nobody-of-that-name/x}",
            "the file cannot be read: there is no such path (reference ${file:~nobody-of-that-name/x})",
        ),
        ("${file:a\0b}", f"the path of a ${{file:…}} has a control character in it; {ESCAPES}"),
        ("${file:C:\new}", f"the path of a ${{file:…}} has a control character in it; {ESCAPES}"),
    ],
)
def test_a_reference_that_leads_nowhere_is_named(text, message):
    assert fault(text) == message


@pytest.mark.parametrize("text", ["${}", "${hunter 2}", "${vault:hunter2}", "${1}", "${:-hunter2}"])
def test_what_is_no_reference_is_told_without_repeating_it(text):
    message = fault(text)
    assert message.startswith("a reference should be ${NAME}, ${NAME:-default}, ${file:PATH}")
    assert "hunter" not in message


def test_every_bad_reference_of_a_string_is_told_at_its_place():
    faults = []
    References(Path(), ENVIRON).resolved(Item("${A} ${B}", "f", "key", 3, 7), faults)
    assert [str(each)[:35] for each in faults] == [
        "f:3:7: key: environment variable A ",
        "f:3:7: key: environment variable B ",
    ]


@pytest.mark.parametrize(
    ("content", "result"),
    [
        (b"secret\n", "secret"),
        (b"secret\r\n", "secret"),
        (b"secret\n\n", "secret\n"),
        (b" s \n", " s "),
        (b"", ""),
    ],
)
def test_a_file_loses_exactly_one_newline(tmp_path, content, result):
    (tmp_path / "secret").write_bytes(content)
    assert value("${file:secret}", tmp_path) == result
    assert value(f"${{file:{tmp_path}/secret}}") == result


def test_a_file_may_be_in_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "secret").write_text("s")
    assert value("${file:~/secret}", Path("/elsewhere")) == "s"


def test_a_file_that_is_not_text_is_a_fault_without_its_content(tmp_path):
    (tmp_path / "secret").write_bytes(b"hunter\xff")
    told = "the value of ${file:secret} is not UTF-8 text; save it as UTF-8"
    assert fault("${file:secret}", tmp_path) == told
    (tmp_path / "secret").write_bytes("hunter2".encode("utf-16"))
    told = "the value of ${file:secret} is UTF-16, not UTF-8 text; save it as UTF-8"
    assert fault("${file:secret}", tmp_path) == told


def test_a_file_that_is_not_there_is_told_with_where_it_was_looked_for(tmp_path):
    assert fault("${file:secret}", tmp_path) == (
        "the file cannot be read: No such file or directory (reference ${file:secret}); "
        f"it was looked for in {tmp_path}"
    )


def test_a_file_that_may_not_be_read_is_told_with_who_has_to_be_able_to(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert fault("${file:secret}", tmp_path).endswith("; let the user that authproxy runs as read it")


def test_the_keyring_is_asked(keyring):
    assert value("${keyring:my/service/joe}") == "from the keyring"
    assert fault("${keyring:other/joe}") == (
        "the keyring has no such entry (reference ${keyring:other/joe}); `keyring set other joe` makes one"
    )


def test_a_keyring_that_fails_is_a_fault_without_its_words(keyring, monkeypatch):
    def fail(service, user):
        raise RuntimeError("hunter2")

    monkeypatch.setattr(keyring, "get_password", fail)
    assert fault("${keyring:a/b}") == (
        "the keyring cannot be asked: RuntimeError (reference ${keyring:a/b}); "
        "where there is none, as on most servers, use ${file:PATH}"
    )


def test_a_missing_keyring_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "keyring", None)
    assert fault("${keyring:a/b}").endswith("pip install 'authproxy[keyring]'")


def test_a_command_is_run_without_a_shell(program, tmp_path):
    program('echo "$1"')
    assert value('${command:./program "a $HOME; b"}', tmp_path) == "a $HOME; b"


def test_a_command_reads_nothing_from_us(program, tmp_path):
    program("cat; echo done")
    assert value("${command:./program}", tmp_path) == "done"


def test_a_failing_command_is_named_by_its_program_and_its_code(program, tmp_path):
    program("echo hunter2; echo hunter2 >&2; exit 3")
    message = fault("${command:./program --password hunter2}", tmp_path)
    assert message == (
        "the program failed with exit code 3 (reference ${command:./program …}); "
        "run it by itself to see what it says"
    )


def test_a_command_that_takes_too_long_is_ended_with_its_children(program, tmp_path, monkeypatch):
    monkeypatch.setattr(references, "COMMAND_TIMEOUT", 0.05)
    program("sleep 60 & sleep 60")
    assert "took more than" in fault("${command:./program}", tmp_path)


def test_a_reference_is_read_once_however_often_it_is_written(program, tmp_path):
    program("echo x >> count; echo x")
    refs = References(tmp_path, {})
    for _ in range(3):
        resolve("${command:./program}", refs=refs)
    assert (tmp_path / "count").read_text() == "x\n"


def test_files_and_commands_are_read_again_and_the_rest_is_kept(tmp_path, keyring):
    text = "${file:secret} ${keyring:my/service/joe} ${NAME}"
    (tmp_path / "secret").write_text("old")
    refs = References(tmp_path, ENVIRON)
    item, _ = resolve(text, refs=refs)
    (tmp_path / "secret").write_text("new")
    keyring.entries.clear()
    assert resolve(text, refs=refs)[0].value == "old from the keyring joe"
    assert refs.again().resolved(item, []).value == "new from the keyring joe"


@pytest.mark.parametrize(
    ("text", "sources"),
    [
        ("x", set()),
        ("$$", set()),
        ("${NAME}", {"env"}),
        ("${A:-b}", {"env"}),
        ("${file:f}${NAME}", {"file", "env"}),
    ],
)
def test_a_string_remembers_where_it_came_from(tmp_path, text, sources):
    (tmp_path / "f").write_text("x")
    assert resolve(text, tmp_path)[0].sources == sources


def test_a_string_remembers_which_variables_it_came_from_those_of_defaults_too(tmp_path):
    item, _ = resolve("${A:-${B:-x}} ${NAME} ${file:f}", tmp_path)
    assert item.variables == {"A", "B", "NAME"}
    assert item.made("x").variables == frozenset()


def test_a_program_is_given_the_environment_but_for_what_is_withheld(tmp_path, monkeypatch):
    monkeypatch.setenv("OURS", "s3cr3t")
    monkeypatch.setenv("THEIRS", "fine")
    references = References(tmp_path, {})
    references.withheld = frozenset({"OURS"})
    for each in (references, references.again()):
        said = each.read("command", "sh -c 'echo ${OURS-nothing} $THEIRS'")
        assert said == "nothing fine"


def test_where_no_program_is_run_the_rest_is_read_once_for_both(tmp_path):
    path = tmp_path / "f"
    path.write_text("first")
    references = References(tmp_path, {})
    without = references.without_commands()
    assert without.read("command", "touch ran").startswith("https://")
    assert without.read("file", "f") == "first"
    path.write_text("second")
    assert references.read("file", "f") == "first"
    assert not (tmp_path / "ran").exists()
