"""Templates render like a naive reading of the language, and nothing in them reaches beyond the data or the limits."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import example, given, settings, strategies as st

from mauntic_jobs.delivery.payload import MalformedError, read_message
from mauntic_jobs.delivery.render import text_budget
from mauntic_jobs.delivery.render.templates.nodes import TemplateError
from mauntic_jobs.delivery.render.templates.parser import (
    DEEPEST_NESTING,
    LONGEST_PATH,
    LONGEST_SOURCE,
    compile_template,
)
from mauntic_jobs.delivery.render.text_budget import TextBudget
from mauntic_jobs.settings.types import MessageLimits

DATA: dict[str, Any] = {
    "name": "Ann",
    "html": "<b title=\"x\">Tom & 'Jerry'</b>",
    "contact": {"firstName": "Ann", "address": {"city": "Köln"}, "tags": ["a", "b"], "custom-field": "c", "$id": "d"},
    "items": [{"name": "Pen", "price": 1.5}, {"name": "Ink", "price": 2.0}, {"price": None}],
    "words": ["x", "<y>", "z"],
    "matrix": [[1, 2], [], [3]],
    "people": [{"name": "Bo", "pets": [{"name": "Rex"}, {"age": 3}]}, {"name": "Cy", "pets": []}],
    "null": None,
    "yes": True,
    "no": False,
    "zero": 0,
    "zero_point_zero": 0.0,
    "empty": "",
    "nothing": [],
    "blank": {},
    "0": "zeroth",
    "this": "shadowed",
    "ключ": "значение",
}

RENDERED = [
    ("", ""),
    ("plain { text } {{", "plain { text } {{"),
    ("}} {{name", "}} {{name"),
    ("a }} b", "a }} b"),
    ("{{name}} {{name", "Ann {{name"),
    ("{{name}}", "Ann"),
    ("{{ name }}{{\n\tname\n}}{{\u00a0name\u00a0}}", "AnnAnnAnn"),
    ("{{name}}{{name}}", "AnnAnn"),
    ("{ {name} }", "{ {name} }"),
    ("{{name}}}", "Ann}"),
    ("@media x{.a{color:{{name}}}}", "@media x{.a{color:Ann}}"),
    ("{{html}}", "&lt;b title=&quot;x&quot;&gt;Tom &amp; &#x27;Jerry&#x27;&lt;/b&gt;"),
    ("{{{html}}}{{{ name }}}", DATA["html"] + "Ann"),
    ("{{{html}}}}", DATA["html"] + "}"),
    ("{{contact.firstName}} of {{contact.address.city}}", "Ann of Köln"),
    ("{{contact.custom-field}}{{contact.$id}}{{ключ}}", "cdзначение"),
    ("{{contact.tags.0}}{{contact.tags.1}}{{contact.tags.2}}{{contact.tags.length}}", "ab2"),
    ("[{{contact.tags.-1}}{{contact.tags.01}}{{contact.tags.٠}}{{words.99999999999999999999}}]", "[]"),
    ("{{0}}{{name.0}}{{name.length}}", "zeroth"),
    ("[{{absent}}{{absent.x}}{{name.x}}{{contact.x.y.z}}{{null}}{{null.x}}{{zero.x}}{{empty}}]", "[]"),
    ("{{yes}} {{no}} {{zero}} {{zero_point_zero}}", "true false 0 0"),
    ("{{words}}|{{{words}}}|{{nothing}}", "x,&lt;y&gt;,z|x,<y>,z|"),
    ("{{matrix}}|{{items}}|{{blank}}", "1,2,,3|[object Object],[object Object],[object Object]|[object Object]"),
    ("a{{! a comment }}b{{!}}c{{!{{name}}d", "abcd"),
    ("{{!{#if}}{{!\n}}}", "}"),
    ("{{#if yes}}a{{/if}}{{#if no}}b{{/if}}", "a"),
    ("{{#if yes}}a{{else}}b{{/if}}{{#if no}}a{{else}}b{{/if}}", "ab"),
    ("{{# if yes }}a{{ else }}b{{/ if }}{{#if\nyes}}c{{ /if}}", "ac"),
    ("{{#if yes}}{{/if}}{{#if yes}}{{else}}x{{/if}}", ""),
    ("{{#if yes}}{{#if no}}a{{else}}b{{/if}}c{{else}}d{{/if}}e", "bce"),
    ("{{#if no}}{{#if no}}a{{else}}b{{/if}}c{{else}}{{#if yes}}d{{/if}}f{{/if}}e", "dfe"),
    ("{{#each words}}{{@index}}:{{this}};{{/each}}", "0:x;1:&lt;y&gt;;2:z;"),
    ("{{#each words}}{{{this}}}{{#if @index}}!{{/if}}{{/each}}", "x<y>!z!"),
    ("{{#each items}}{{name}}={{this.name}}={{price}};{{/each}}", "Pen=Pen=1.5;Ink=Ink=2;Ann==;"),
    (
        "{{#each matrix}}[{{#each this}}{{@index}}{{this}}{{/each}}{{@index}}{{this.length}}]{{/each}}",
        "[011202][10][0321]",
    ),
    ("{{#each people}}{{name}}{{#each pets}} {{name}}{{age}}{{this.name}}{{/each}};{{/each}}", "Bo RexRex Bo3;Cy;"),
    ("{{#each people}}{{#each this.pets}}{{@index}}{{/each}}{{@index}}{{/each}}{{@index}}", "0101"),
    ("{{#each people}}{{contact.firstName}}{{pets.0.name}}{{/each}}", "AnnRexAnn"),
    ("{{#each name}}x{{/each}}{{#each contact}}x{{/each}}{{#each absent}}x{{/each}}{{#each yes}}x{{/each}}", ""),
    ("{{#each words}}{{#if this}}{{this}}{{else}}-{{/if}}{{/each}}{{#each nothing}}x{{/each}}", "x&lt;y&gt;z"),
    ("{{this}} {{this.name}} {{this.this}}", "[object Object] Ann shadowed"),
    ("{{{else}}}{{elsewhere}}{{if}}{{each}}", ""),
    ("{{__proto__}}{{constructor}}{{constructor.prototype}}{{toString}}{{name.constructor}}", ""),
    ("{{name.__class__}}{{__class__.__mro__}}{{contact.items}}{{contact.keys}}{{words.append}}{{this.get}}", ""),
    ("{{#each words}}{{__class__}}{{this.__class__}}{{this.upper}}{{/each}}{{#if name.upper}}x{{/if}}", ""),
]

REFUSED = [
    ("{{#if yes}}", 1, 1, "{{#if}} is never closed"),
    ("a\n  {{#each words}}{{#if yes}}{{/if}}", 2, 3, "{{#each}} is never closed"),
    ("{{#if yes}}{{else}}", 1, 1, "{{#if}} is never closed"),
    ("\n\n{{/if}}", 3, 1, "here is '/if' where no end of a block is expected"),
    ("{{#if yes}}{{/each}}", 1, 12, "here is '/each' where {{/if}} is expected"),
    ("{{#each words}}{{#if yes}}{{/each}}{{/if}}", 1, 27, "here is '/each' where {{/if}} is expected"),
    ("{{#if yes}}{{/if yes}}", 1, 12, "here is '/if yes' where {{/if}} is expected"),
    ("{{/}}", 1, 1, "here is '/' where no end of a block is expected"),
    ("ab{{else}}", 1, 3, "{{else}} stands outside {{#if}}"),
    ("{{#if a}}{{#each words}}{{else}}{{/each}}{{/if}}", 1, 25, "{{else}} stands outside {{#if}}"),
    ("{{#if a}}{{else}}\n{{else}}{{/if}}", 2, 1, "{{#if}} has a second {{else}}"),
    ("{{#unless a}}{{/unless}}", 1, 1, "there is no block 'unless', only if, each and variant"),
    ("{{#}}", 1, 1, "there is no block '', only if, each and variant"),
    ("{{#if}}{{/if}}", 1, 1, "'' is not a path: write it like contact.firstName"),
    ("{{#if a b}}{{/if}}", 1, 1, "'a b' is not a path: write it like contact.firstName"),
    ("{{{name}} x", 1, 1, "{{{ is closed by }} only"),
    ("{{{#if a}}}{{/if}}", 1, 1, "'#if a' is not a path: write it like contact.firstName"),
    (f"{{{{{'a' * LONGEST_PATH}a}}}}", 1, 1, "a path is longer than 1000 characters"),
    (f"{{{{{'é ' * 100}}}}}", 1, 1, f"{'é ' * 20 + '…'!r} is not a path: write it like contact.firstName"),
]

BAD_PATHS = [
    *["", " ", ".", "a.", ".a", "a..b", "a b", "../a", "a/b", "a[0]", "a()", "a|b", "a+b", "'a'", "@key", "@index.x"],
    *["a.@index", "> partial", "^a", "&a", "else if a", "{a", "a{", "a}b", "a\nb", "a\0", "{{name", "a=1", "#"],
]

NUMBERS = [
    *[
        (1.0, "1"),
        (-1.0, "-1"),
        (0.0, "0"),
        (-0.0, "0"),
        (1.5, "1.5"),
        (-2.50, "-2.5"),
        (0.1 + 0.2, "0.30000000000000004"),
    ],
    *[(100, "100"), (1e15, "1000000000000000"), (1e16, "10000000000000000"), (1.5e20, "150000000000000000000")],
    *[(1e21, "1e+21"), (1.25e21, "1.25e+21"), (-1e100, "-1e+100"), (1.7976931348623157e308, "1.7976931348623157e+308")],
    *[(1e-4, "0.0001"), (1e-5, "0.00001"), (-1.5e-6, "-0.0000015"), (1e-6, "0.000001"), (9.9e-7, "9.9e-7")],
    *[(1e-7, "1e-7"), (1.5e-10, "1.5e-10"), (5e-324, "5e-324"), (123456.789e3, "123456789")],
    *[(2**53, "9007199254740992"), (2**53 + 1, "9007199254740992"), (-(2**53) - 3, "-9007199254740996")],
    *[
        (10**21, "1e+21"),
        (12345678901234567890, "12345678901234567000"),
        (10**400, "Infinity"),
        (-(10**400), "-Infinity"),
    ],
    *[(math.nan, "NaN"), (math.inf, "Infinity"), (-math.inf, "-Infinity"), (True, "true"), (False, "false")],
]

LONGEST_OUTPUT, MOST_STEPS = MessageLimits().template_output, MessageLimits().template_steps


def render(source: str, data: Mapping[str, Any] = MappingProxyType(DATA), *, escape: bool = True) -> str:
    return compile_template(source).render(data, escape=escape)


@pytest.mark.parametrize(("source", "expected"), RENDERED)
def test_renders(source: str, expected: str) -> None:
    assert render(source) == expected
    assert _reference(source, DATA, escape=True) == expected


@pytest.mark.parametrize(("source", "line", "column", "problem"), REFUSED)
def test_what_is_wrong_is_told_with_its_place(source: str, line: int, column: int, problem: str) -> None:
    for _ in range(2):
        with pytest.raises(TemplateError) as caught:
            compile_template(source)
        assert str(caught.value) == f"the template cannot be used: line {line}, column {column}: {problem}"


@pytest.mark.parametrize("path", BAD_PATHS)
@pytest.mark.parametrize("form", ["{{%s}}", "{{{%s}}}", "{{#if %s}}{{/if}}", "{{#each %s}}{{/each}}"])
def test_a_bad_path_is_refused(form: str, path: str) -> None:
    with pytest.raises(TemplateError, match="line 1, column 1: "):
        compile_template(form.replace("%s", path))


@pytest.mark.parametrize(("number", "text"), NUMBERS)
def test_numbers_are_written_as_in_javascript(number: float, text: str) -> None:
    assert render("{{n}},{{l}},{{{n}}}", {"n": number, "l": [number]}) == f"{text},{text},{text}"


@pytest.mark.parametrize("value", [None, False, 0, 0.0, -0.0, "", []])
def test_falsy(value: Any) -> None:
    assert render("{{#if value}}yes{{else}}no{{/if}}", {"value": value}) == "no"


@pytest.mark.parametrize("value", [True, 1, -1, 0.1, " ", "0", "false", [None], [[]], {}, {"a": None}])
def test_truthy(value: Any) -> None:
    assert render("{{#if value}}yes{{else}}no{{/if}}", {"value": value}) == "yes"


def test_plain_text_is_not_escaped() -> None:
    assert render("{{html}}{{{html}}}<{{words}}>", escape=False) == f"{DATA['html']}{DATA['html']}<x,<y>,z>"


def test_values_are_not_read_as_templates() -> None:
    assert render("{{a}}{{{a}}}{{#each l}}{{this}}{{/each}}", {"a": "{{b}}", "b": "x", "l": ["{{b}}"]}) == "{{b}}" * 3


def test_an_own_null_shadows_an_outer_value() -> None:
    data = {"a": {"b": "outer"}, "l": [{"a": None}, {"a": {}}, {"a": "x"}, {}, None, 7, ["a"]]}
    assert render("{{#each l}}[{{a.b}}]{{/each}}", data) == "[][][][outer][outer][outer][outer]"


def test_a_compiled_template_is_kept_and_keeps_nothing_of_a_rendering() -> None:
    source = "{{#each l}}{{this}}{{/each}}{{a}}"
    template = compile_template(source)
    assert compile_template("".join(list(source))) is template
    assert [template.render({"l": ["<"], "a": 1}, escape=escape) for escape in (True, False)] == ["&lt;1", "<1"]
    assert template.render({}) == ""


def test_a_value_that_is_not_json_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(TypeError, match="object is not a JSON value"):
        render("{{a}}", {"a": object()})


def test_only_keys_and_items_are_looked_at() -> None:
    class Trap(dict[str, Any]):
        hidden = "hidden"

        def __missing__(self, key: str) -> str:
            return self.hidden

        def __getattr__(self, name: str) -> str:
            return self.hidden

    trap = Trap(known="known")
    source = "{{t.known}}{{t.hidden}}{{t.other}}{{#each l}}{{hidden}}{{this.hidden}}{{known}}{{/each}}{{hidden}}"
    assert render(source, {"t": trap, "l": [trap]}) == "knownknown"
    assert render("{{hidden}}{{other}}", trap) == ""


@pytest.mark.parametrize("helper", ["if", "each"])
def test_blocks_nest_to_a_limit(helper: str) -> None:
    def nested(depth: int) -> str:
        return f"{{{{#{helper} l}}}}" * depth + "x" + f"{{{{/{helper}}}}}" * depth

    assert render(nested(DEEPEST_NESTING), {"l": [1]}) == "x"
    for depth in (DEEPEST_NESTING + 1, 40_000):
        with pytest.raises(TemplateError, match="blocks are nested deeper than 20"):
            compile_template(nested(depth))


def test_a_source_may_be_so_long() -> None:
    assert render("x" * LONGEST_SOURCE) == "x" * LONGEST_SOURCE
    with pytest.raises(TemplateError, match="it is longer than 1000000 characters"):
        compile_template("x" * (LONGEST_SOURCE + 1))


@pytest.mark.parametrize(
    "source",
    [
        *["{" * 1_000_000, "{{" * 499_999 + "a}", "}" * 1_000_000, "{{a}" * 250_000, "{{{" * 333_333 + "}"],
        *["{{!" + "{{" * 499_000 + "}}", "{{! }}" * 160_000, "{{ " + " " * 999_000 + "!}}"],
    ],
    ids=lambda source: source[:8],
)
def test_long_sources_without_values_are_read(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_budget, "MAX_TEXT_SECONDS", 60)
    assert render(source) == re.sub(r"\{\{\s*!.*?\}\}", "", source, flags=re.DOTALL)


@pytest.mark.parametrize(
    "source",
    [
        *["{{" * 499_000 + "}}", "{{{" * 333_000 + "}}", "{{" + "a." * 499_000 + "}}", "{{" + "a" * 999_000 + "}}"],
        *["{{#if " * 160_000 + "}}", "{{" + " " * 999_000 + "}}", "{{#if a}}" * 110_000, "{{}}" * 250_000],
    ],
    ids=lambda source: source[:8],
)
def test_long_sources_of_nonsense_are_refused(source: str) -> None:
    with pytest.raises(TemplateError):
        compile_template(source)


@pytest.mark.parametrize("escape", [True, False])
@pytest.mark.parametrize("form", ["{{%s}}", "{{{%s}}}"])
def test_output_may_be_so_long(form: str, escape: bool) -> None:
    template = compile_template("x" + form.replace("%s", "text"))
    assert len(template.render({"text": "y" * (LONGEST_OUTPUT - 1)}, escape=escape)) == LONGEST_OUTPUT
    for text in ("y" * LONGEST_OUTPUT, "&" * 10 * LONGEST_OUTPUT, ["y" * (LONGEST_OUTPUT - 1), ""]):
        with pytest.raises(TemplateError, match="line 1, column 2: it becomes longer than 1000000 characters"):
            template.render({"text": text}, escape=escape)


def test_output_is_measured_after_escaping() -> None:
    text = "&" * (LONGEST_OUTPUT // 5)
    assert len(render("{{text}}", {"text": text})) == LONGEST_OUTPUT
    with pytest.raises(TemplateError, match="it becomes longer"):
        render("{{text}}", {"text": text + "&"})


def test_a_loop_cannot_multiply_a_text() -> None:
    data = {"l": [0] * 1_000, "text": "x" * 100_000}
    for source in ("{{#each l}}{{{text}}}{{/each}}", "{{#each l}}" + "x" * 100_000 + "{{/each}}", "{{l}}"):
        with pytest.raises(TemplateError, match="it becomes longer"):
            render(source, {**data, "l": [data["text"]] * 1_000})


@pytest.mark.parametrize("body", ["", "{{this}}", "{{! }}", "{{absent}}", "{{#if absent}}{{/if}}", "x"])
def test_nested_loops_explode_nothing(body: str) -> None:
    depth = DEEPEST_NESTING - 1
    source = "\n{{#each l}}" * depth + body + "{{/each}}" * depth
    with pytest.raises(TemplateError, match=r"line \d+, column \d+: it (takes more than (100000 steps|50 ms)|becomes)"):
        render(source, {"l": list(range(100))})


def test_steps_are_counted_to_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_budget, "MAX_TEXT_SECONDS", 60)
    items = [0] * (MOST_STEPS - 1)
    assert render("{{#each l}}{{/each}}", {"l": items}) == ""
    for source in (
        "{{#each l}}{{/each}}{{a}}",
        "{{#each l}}{{#if a}}{{/if}}{{/each}}",
        "{{l}}",
        "{{#if l}}{{/if}}{{l}}",
    ):
        with pytest.raises(TemplateError, match="it takes more than 100000 steps"):
            render(source, {"l": items})
    with pytest.raises(TemplateError, match=f"column {5 * MOST_STEPS + 1}: it takes more than 100000 steps"):
        render("{{a}}" * (MOST_STEPS + 1))


@pytest.mark.parametrize("source", ["{{#each l}}{{/each}}", "{{a}}" * 1_000, "{{l}}", "{{#each l}}{{l}}{{/each}}"])
def test_time_is_limited(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_budget, "MAX_TEXT_SECONDS", -1)
    with pytest.raises(TemplateError, match=r"line 1, column [0-9]+: it takes more than -1000 ms of CPU time"):
        render(source, {"l": [0] * 1_000})


def test_deep_data_is_no_deep_recursion() -> None:
    lists: list[Any] = ["x"]
    mapping: dict[str, Any] = {"a": "x"}
    for _ in range(50_000):
        lists, mapping = [lists], {"a": mapping}
    assert render("{{l}}{{#if l.0.0.0}}y{{/if}}{{" + "a." * 400 + "a.b}}", {"l": lists, **mapping}) == "xy"


def test_a_list_in_itself_ends() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(TemplateError, match="it takes"):
        render("{{l}}", {"l": endless})


_NAMES = st.sampled_from(
    ["a", "b", "c", "l", "m", "0", "1", "length", "this", "@index", "__class__", "constructor", "é"]
)
_PATHS = st.lists(_NAMES, min_size=1, max_size=3).map(".".join)
_TEXTS = st.text("ab<>&\"'{} \nй", max_size=6)
_SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), _TEXTS, st.sampled_from([0, 1, 0.0, ""]))
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=4),
    max_leaves=20,
)
_DATA = st.dictionaries(
    _NAMES, _VALUES | st.lists(st.dictionaries(_NAMES, _VALUES, max_size=3), max_size=3), max_size=8
)
_TEMPLATES = st.recursive(
    st.one_of(
        st.text("ab<&} \n", max_size=8),
        st.builds("{{{{{}}}}}".format, _PATHS),
        st.builds("{{{{ {}\n}}}}".format, _PATHS),
        st.builds("{{{{{{{}}}}}}}".format, _PATHS),
        st.just("{{! a {{ comment }}"),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5).map("".join),
        st.builds("{{{{#if {}}}}}{}{{{{/if}}}}".format, _PATHS, inner),
        st.builds("{{{{#if {}}}}}{}{{{{else}}}}{}{{{{/if}}}}".format, _PATHS, inner, inner),
        st.builds("{{{{#each {}}}}}{}{{{{/each}}}}".format, _PATHS, inner),
    ),
    max_leaves=25,
)
_PIECES = [
    *[
        "{",
        "}",
        "{{",
        "}}",
        "{{{",
        "}}}",
        " ",
        "\n",
        "a",
        "l",
        "this",
        ".",
        "#",
        "/",
        "!",
        "@index",
        "else",
        "if",
        "each",
        "x",
    ],
    *["{{a}}", "{{#if a}}", "{{#each l}}", "{{/if}}", "{{/each}}", "{{else}}", "{{{l}}}", "{{this.a}}", "{{@index}}"],
]


@pytest.mark.slow
@settings(deadline=None, max_examples=500)
@given(source=_TEMPLATES, data=_DATA, escape=st.booleans())
@example(source="{{#each l}}{{#if this}}{{a.0}}{{else}}{{a}}{{/if}}{{/each}}", data={"l": [{"a": [1]}, 0]}, escape=True)
def test_templates_render_as_in_the_naive_reading(source: str, data: dict[str, Any], escape: bool) -> None:
    assert _outcome(source, data, escape=escape) == _reference(source, data, escape=escape)


@pytest.mark.slow
@settings(deadline=None, max_examples=1_000)
@given(source=st.lists(st.sampled_from(_PIECES), max_size=16).map("".join), data=_DATA)
def test_nonsense_is_refused_where_the_naive_reading_refuses_it(source: str, data: dict[str, Any]) -> None:
    assert _outcome(source, data, escape=True) == _reference(source, data, escape=True)


@pytest.mark.slow
@settings(deadline=None)
@given(source=st.text(max_size=50) | st.text("{}#/!@. aif\0\n", max_size=50), data=_DATA)
def test_any_text_is_rendered_or_refused(source: str, data: dict[str, Any]) -> None:
    assert _outcome(source, data, escape=True) == _reference(source, data, escape=True)


@settings(deadline=None)
@given(number=st.floats(allow_nan=False, allow_infinity=False) | st.integers())
def test_a_number_reads_back_as_itself(number: float) -> None:
    text = render("{{n}}", {"n": number})
    assert float(text) == float(number)
    assert text == _naive_text(number)


@settings(deadline=None)
@given(text=st.text())
def test_an_escaped_text_reads_back_as_itself(text: str) -> None:
    escaped = render("{{text}}", {"text": text})
    assert not set("<>\"'") & set(escaped)
    for entity, character in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&#x27;", "'"), ("&amp;", "&")):
        escaped = escaped.replace(entity, character)
    assert escaped == text


def _outcome(source: str, data: Mapping[str, Any], *, escape: bool) -> str | None:
    try:
        return render(source, data, escape=escape)
    except TemplateError:
        return None


# The naive reading: tags are cut out by hand, blocks are rendered from their text, and scopes are merged mappings.


def _reference(source: str, data: Mapping[str, Any], *, escape: bool) -> str | None:
    try:
        tokens = list(_tokens(source))
        tree, rest = _tree(tokens, 0)
        if rest != len(tokens):
            return None
    except ValueError:
        return None
    return "".join(_naive(tree, {**data, _THIS: dict(data), _INDEX: None}, escape=escape))


_THIS, _INDEX = object(), object()


def _tokens(source: str) -> Iterator[tuple[str, str]]:
    while "{{" in source:
        before, _, after = source.partition("{{")
        if "}}" not in after:
            break
        yield "text", before
        if after.startswith("{"):
            content, _, source = after[1:].partition("}}")
            if not source.startswith("}"):
                raise ValueError
            source = source[1:]
            yield "raw", _checked(content.strip())
            continue
        content, _, source = after.partition("}}")
        content = content.strip()
        if content[:1] == "!":
            continue
        if content[:1] in ("#", "/"):
            words = content[1:].split()
            if words[:1] not in (["if"], ["each"]) or len(words) != (2 if content[0] == "#" else 1):
                raise ValueError
            yield content[0] + words[0], _checked(words[1]) if content[0] == "#" else ""
        elif content == "else":
            yield "else", ""
        else:
            yield "value", _checked(content)
    yield "text", source


def _checked(path: str) -> str:
    allowed = all(step and all(letter.isalnum() or letter in "_$-" for letter in step) for step in path.split("."))
    if not allowed and path != "@index":
        raise ValueError
    return path


def _tree(tokens: list[tuple[str, str]], at: int) -> tuple[list[Any], int]:
    nodes: list[Any] = []
    while at < len(tokens) and tokens[at][0] not in ("else", "/if", "/each"):
        kind, text = tokens[at]
        at += 1
        if kind in ("#if", "#each"):
            body, at = _tree(tokens, at)
            otherwise: list[Any] = []
            if kind == "#if" and tokens[at : at + 1] == [("else", "")]:
                otherwise, at = _tree(tokens, at + 1)
            if tokens[at : at + 1] != [("/" + kind[1:], "")]:
                raise ValueError
            at += 1
            nodes.append((kind, text, body, otherwise))
        else:
            nodes.append((kind, text, [], []))
    return nodes, at


def _naive(tree: list[Any], scope: dict[Any, Any], *, escape: bool) -> Iterator[str]:
    for kind, text, body, otherwise in tree:
        if kind == "text":
            yield text
            continue
        value = _naive_value(text, scope)
        if kind == "#if":
            falsy = value is None or value is False or value in (0, "", [])
            yield from _naive(otherwise if falsy else body, scope, escape=escape)
        elif kind == "#each":
            for index, item in enumerate(value if isinstance(value, list) else []):
                own = item if isinstance(item, dict) else {}
                yield from _naive(body, {**scope, **own, _THIS: item, _INDEX: index}, escape=escape)
        else:
            for letter in _naive_text(value):
                escaped = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"}.get(letter, letter)
                yield escaped if escape and kind == "value" else letter


def _naive_value(path: str, scope: dict[Any, Any]) -> Any:
    first, *steps = path.split(".")
    value = scope.get({"this": _THIS, "@index": _INDEX}.get(first, first))
    for step in steps:
        if isinstance(value, list):
            value = {"length": len(value), **{str(index): item for index, item in enumerate(value)}}.get(step)
        else:
            value = value.get(step) if isinstance(value, dict) else None
    return value


def _naive_text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(_naive_text(item) for item in value)
    if isinstance(value, dict):
        return "[object Object]"
    if value is None or isinstance(value, bool):
        return {None: "", True: "true", False: "false"}[value]
    return _naive_number(float(value)) if isinstance(value, int | float) else str(value)


def _naive_number(number: float) -> str:  # noqa: PLR0911 - a rule each
    """Follow the steps of ECMA-262, Number::toString, one by one."""
    if math.isnan(number) or number == 0:
        return "NaN" if number else "0"
    if number < 0:
        return "-" + _naive_number(-number)
    if math.isinf(number):
        return "Infinity"
    _, found, exponent = Decimal(repr(number)).normalize().as_tuple()
    assert isinstance(exponent, int)
    digits = "".join(map(str, found))
    k, n = len(digits), len(digits) + exponent
    if k <= n <= 21:
        return digits + "0" * (n - k)
    if 0 < n <= 21:
        return f"{digits[:n]}.{digits[n:]}"
    if -6 < n <= 0:
        return "0." + "0" * -n + digits
    return f"{digits[0]}{'.' if k > 1 else ''}{digits[1:]}e{'+' if n > 0 else '-'}{abs(n - 1)}"


def test_the_setting_decides_the_limits() -> None:
    small = TextBudget(MessageLimits(template_output=1_024, template_steps=100))
    assert compile_template("{{a}}").render({"a": "x" * 1_024}, budget=small) == "x" * 1_024
    with pytest.raises(TemplateError, match=r"longer than 1024 characters \(setting message_limits.template_output\)"):
        compile_template("{{a}}").render({"a": "x" * 1_025}, budget=small)
    with pytest.raises(TemplateError, match=r"more than 100 steps \(setting message_limits.template_steps\)"):
        compile_template("{{a}}" * 101).render({"a": ""}, budget=small)


def test_the_setting_decides_how_long_the_data_of_a_job_may_be() -> None:
    data = json.dumps({"organizationId": str(uuid4()), "deliveryId": "d1", "body": "x" * 2_000})
    limit = MessageLimits(payload=len(data))
    assert read_message(data, "email", limit)[0].delivery_id == "d1"
    with pytest.raises(MalformedError, match=rf"\(limit {len(data):,}, setting message_limits.payload\)"):
        read_message(f"{data} ", "email", limit)
