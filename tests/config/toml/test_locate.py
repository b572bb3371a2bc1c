"""Each value of a TOML document is found where it stands."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator

from hypothesis import example, given
from hypothesis import strategies as st

from alarm_mw.config.tables.tree import Path
from alarm_mw.config.toml.document import locate

DOCUMENT = '''\
# [not.a.table]
top = 1  # = 2
"quoted key".'lit.eral'.bare = [
  "a,]", # ] comment
  { x = 1, "y".z = [ 2, 3 ] }, 1979-05-27 07:32:00,
]
empty = []

[ alarms . "jab\\"ber" ]
text = """
[not.a.table]
a = 1
\\""" ""quoted""""\x20
next = \'\'\'
it''s \\\'\'\'\'
[[rules]]
p = "a\\\\"
[rules.inner]
q = 1
[[rules]]
p = ''
[[rules.deep]]
[[rules.deep]]
r = true
[alarms]
late = 1
'''


def test_every_kind_of_place() -> None:
    """Tables, arrays of tables, dotted keys, inline tables, and strings of many lines lead to the right lines."""
    lines = {path: (place.line, place.column) for path, place in locate(DOCUMENT).items()}
    assert lines == {
        (): (1, 1),
        ("top",): (2, 7),
        ("quoted key",): (3, 1),
        ("quoted key", "lit.eral"): (3, 1),
        ("quoted key", "lit.eral", "bare"): (3, 32),
        ("quoted key", "lit.eral", "bare", 0): (4, 3),
        ("quoted key", "lit.eral", "bare", 1): (5, 3),
        ("quoted key", "lit.eral", "bare", 1, "x"): (5, 9),
        ("quoted key", "lit.eral", "bare", 1, "y"): (5, 12),
        ("quoted key", "lit.eral", "bare", 1, "y", "z"): (5, 20),
        ("quoted key", "lit.eral", "bare", 1, "y", "z", 0): (5, 22),
        ("quoted key", "lit.eral", "bare", 1, "y", "z", 1): (5, 25),
        ("quoted key", "lit.eral", "bare", 2): (5, 32),
        ("empty",): (7, 9),
        ("alarms",): (25, 1),
        ("alarms", 'jab"ber'): (9, 1),
        ("alarms", 'jab"ber', "text"): (10, 8),
        ("alarms", 'jab"ber', "next"): (14, 8),
        ("rules",): (16, 1),
        ("rules", 0): (16, 1),
        ("rules", 0, "p"): (17, 5),
        ("rules", 0, "inner"): (18, 1),
        ("rules", 0, "inner", "q"): (19, 5),
        ("rules", 1): (20, 1),
        ("rules", 1, "p"): (21, 5),
        ("rules", 1, "deep"): (22, 1),
        ("rules", 1, "deep", 0): (22, 1),
        ("rules", 1, "deep", 1): (23, 1),
        ("rules", 1, "deep", 1, "r"): (24, 5),
        ("alarms", "late"): (26, 8),
    }


def leaves(value: object, path: Path = ()) -> Iterator[tuple[Path, object]]:
    """Yield each table, array and value with its path."""
    yield path, value
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from leaves(inner, (*path, index))


BARE = st.from_regex(r"[a-zA-Z0-9_-]{1,6}", fullmatch=True)
KEYS = st.one_of(
    BARE,
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=6).map(
        lambda key: json.dumps(key, ensure_ascii=False)
    ),
    st.from_regex(r"'[a-z.#=\[\]\" ]{0,6}'", fullmatch=True),
)
DOTTED = st.lists(KEYS, min_size=1, max_size=3).map(" . ".join)
BASIC = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])).map(
    lambda text: json.dumps(text, ensure_ascii=False)
)
MULTI = st.text(alphabet='ab\n#=[]"\\ ').map(
    lambda text: '"""\n' + text.replace("\\", "\\\\").replace('"""', '""\\"').replace('"""', '"\\""') + ' """'
)
LITERAL = st.text(alphabet='ab\n#=[]"\\ ').map(lambda text: f"'''{text}'''")
SCALARS = st.sampled_from(
    ["1", "-2.5e3", "true", "0xff", "1979-05-27T07:32:00Z", "1979-05-27 07:32:00", "07:32:00", "inf"]
)
COMMENTS = st.sampled_from(["", " ", " # [x]\n", "\n", "\n\t# y = '''\n "])


def inner(children: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    arrays = st.lists(st.tuples(COMMENTS, children, COMMENTS).map("".join), max_size=3).map(
        lambda items: f"[{','.join(items)}]"
    )
    tables = st.lists(st.tuples(KEYS, children).map(" = ".join), max_size=3).map(
        lambda items: f"{{ {', '.join(items)} }}"
    )
    return st.one_of(arrays, tables)


VALUES = st.recursive(st.one_of(SCALARS, BASIC, MULTI, LITERAL), inner, max_leaves=6)
STATEMENTS = st.one_of(
    st.tuples(DOTTED, VALUES).map(" = ".join),
    DOTTED.map(lambda key: f"[{key}]"),
    DOTTED.map(lambda key: f"[[ {key} ]]"),
    st.just("# comment = ["),
    st.just(""),
)


def document(statements: list[str]) -> str:
    """Return a valid document of those statements that do not contradict an earlier one."""
    text = ""
    for statement in statements:
        longer = f"{text}{statement}\n"
        try:
            tomllib.loads(longer)
        except tomllib.TOMLDecodeError:
            continue
        text = longer
    return text


@given(st.lists(STATEMENTS, max_size=12).map(document))
@example("a = 1\r\n[b]\r\nc = '''\r\n'''\r\n".replace("\r\n", "\n"))
def test_every_value_has_its_place(text: str) -> None:
    """In any document each value is found, and what stands at its place is that value."""
    places = locate(text)
    found = dict(leaves(tomllib.loads(text)))
    assert places.keys() == found.keys()
    lines = text.split("\n")
    for path, place in places.items():
        assert text[place.index :].startswith(lines[place.line - 1][place.column - 1 :])
        check(found[path], text[place.index :])


def check(value: object, rest: str) -> None:
    """Compare a value with the text at its place; a table has a header, a key, or its brace there."""
    if isinstance(value, dict):
        return
    if isinstance(value, list) and rest.startswith("[["):
        return
    if isinstance(value, str):
        assert any(value == parsed for parsed in strings(rest))
    elif isinstance(value, list):
        assert rest.startswith("[")
    else:
        token = re.match(r"[^,\]}#\n]*", rest)
        assert token is not None
        assert tomllib.loads(f"x = {token[0]}")["x"] == value


def strings(rest: str) -> Iterator[str]:
    """Yield what a string that begins here can be, for each place where it could end."""
    for end in range(2, len(rest) + 1):
        if rest[end - 1] in "'\"":
            try:
                yield tomllib.loads(f"x = {rest[:end]}")["x"]
            except tomllib.TOMLDecodeError:
                continue


@given(st.text(alphabet="ab=.[]{}\"'#\n, 1\\"))
def test_any_valid_text_is_followed(text: str) -> None:
    """Any document that tomllib reads is followed to its end."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    assert locate(text).keys() == dict(leaves(values)).keys()
