"""--format: Go's templates."""

from __future__ import annotations

import pytest

from pycontainer.cli.template import Template
from pycontainer.errors import UsageError

VALUE = {
    "Name": "/web",
    "Id": "0123456789ab",
    "Number": 3,
    "Ratio": 1.5,
    "Yes": True,
    "No": False,
    "Nothing": None,
    "Words": ["sh", "-c", "x y"],
    "Empty": [],
    "Labels": {"b": "2", "a": "1"},
    "State": {"Status": "running", "Pid": 12},
    "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "443/tcp": None},
    "Label": lambda name: {"x": "y"}.get(name, ""),
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # text and fields
        ("", ""),
        ("plain } } {", "plain } } {"),
        ("{{.Name}} {{.State.Status}}", "/web running"),
        ("{{ .Name }}", "/web"),
        ("{{$.State.Pid}}{{(.State).Pid}}", "1212"),
        ("{{.Name}}}}", "/web}}"),
        ('{{.Label "x"}}|{{.Label "z"}}', "y|"),
        # values as Go writes them
        ("{{.Labels}} {{.Words}} {{.Empty}}", "map[a:1 b:2] [sh -c x y] []"),
        ("{{.Yes}} {{.No}} {{.Number}} {{.Ratio}}", "true false 3 1.5"),
        ("{{.Nothing}} {{.Ports}}", "<no value> map[443/tcp:<nil> 80/tcp:[map[HostIp:0.0.0.0 HostPort:8080]]]"),
        ("{{.Labels.nothing}}", "<no value>"),
        ("{{.State.Health}}", "<no value>"),
        # literals
        (r'{{"a\tb\x41\u00e9\"\\"}} {{`r\n`}}', 'a\tbA\u00e9"\\ r\\n'),
        ("{{'a'}} {{0x10}} {{-3}} {{1.5e3}} {{true}}", "97 16 -3 1500 true"),
        # functions
        ("{{json .Words}} {{json .Labels}} {{json .Nothing}}", '["sh","-c","x y"] {"b":"2","a":"1"} null'),
        ("{{json .State.Health}}", "null"),
        ('{{upper .Name}} {{lower "ABC"}} {{title "hello big world"}}', "/WEB abc Hello Big World"),
        ('{{join .Words "+"}} {{split "a,b" ","}} {{len .Words}} {{len "\u00e9"}}', "sh+-c+x y [a b] 3 2"),
        ("{{slice .Id 2 4}} {{slice .Id 10}} {{slice .Words 1}}", "23 ab [-c x y]"),
        ("{{truncate .Id 3}}{{pad .Name 1 2}}|", "012 /web  |"),
        ('{{index .Labels "a"}}{{index .Labels "z"}}{{index .Words 1}}', "1-c"),
        ('{{(index (index .Ports "80/tcp") 0).HostPort}} {{(index .Ports "80/tcp" 0).HostIp}}', "8080 0.0.0.0"),
        ('{{println .Name 1}}{{print 1 2 "a" 3}}', "/web 1\n1 2a3"),
        ("{{eq 1 1}} {{eq .Number 1 2 3}} {{ne .Name `x`}} {{eq .Nothing nil}}", "true true true true"),
        ("{{lt 1 2}} {{le 2 2}} {{gt `a` `b`}} {{ge `b` `a`}}", "true true false true"),
        ("{{not .Yes}} {{not .Empty}}", "false true"),
        ("{{and 1 0 2}} {{and 1 2}} {{or 0 ``}} {{or 0 `x`}}", "0 2  x"),
        ("{{and .Nothing .Nothing.Deeper}} {{or .Yes .Nothing.Deeper}}", "<no value> true"),
        # printf
        ('{{printf "%s-%d-%v-%t-%%" "a" 3 .Words true}}', "a-3-[sh -c x y]-true-%"),
        (r'{{printf "%q" "a\"b\n\x1b"}}', '"a\\"b\\n\\x1b"'),
        ('{{printf "%x %x %X" "hi" 255 255}}', "6869 ff FF"),
        ('{{printf "%5d|%-5s|%05d|%.2f|%.3s|%+d" 3 "ab" 42 1.5 "abcdef" 3}}', "    3|ab   |00042|1.50|abc|+3"),
        ('{{printf "%d" "x"}} {{printf "%s"}} {{printf "x" 1}}', "%!d(string=x) %!s(MISSING) x%!(EXTRA int=1)"),
        # pipelines
        ("{{.Name | upper | printf `%s:%s` `a`}}", "a:/WEB"),
        ("{{.Number | eq 3}} {{len (print .Name .Id)}}", "true 16"),
        # if, with, range, variables
        ("{{if .Yes}}a{{else}}b{{end}}{{if .Empty}}a{{else}}b{{end}}{{if .No}}a{{end}}", "ab"),
        ("{{if .No}}a{{else if .Nothing}}b{{else if .Yes}}c{{else}}d{{end}}!", "c!"),
        ("{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}", "none"),
        ('{{if eq .State.Status "running"}}up{{end}}', "up"),
        ("{{with .State}}{{.Pid}} {{$.Name}}{{else}}x{{end}}{{with .Nothing}}x{{else}}y{{end}}", "12 /weby"),
        ("{{with .Nothing}}a{{else with .State}}{{.Pid}}{{end}}", "12"),
        ("{{with $s := .State}}{{$s.Status}}{{end}}", "running"),
        ("{{range .Words}}[{{.}}]{{else}}none{{end}}{{range .Empty}}x{{else}}none{{end}}", "[sh][-c][x y]none"),
        ("{{range $i, $w := .Words}}{{if $i}}, {{end}}{{$w}}{{end}}", "sh, -c, x y"),
        ("{{range $w := .Words}}{{$w}};{{end}}", "sh;-c;x y;"),
        ("{{range $k, $v := .Labels}}{{$k}}={{$v}} {{end}}", "a=1 b=2 "),
        (
            "{{range $p, $b := .Ports}}{{$p}}->{{if $b}}{{(index $b 0).HostPort}}{{end}} {{end}}",
            "443/tcp-> 80/tcp->8080 ",
        ),
        ("{{$x := 1}}{{range .Words}}{{$x = .}}{{end}}{{$x}}", "x y"),
        ("{{$x := 1}}{{if true}}{{$x := 2}}{{$x}}{{end}}{{$x}}", "21"),
        # space and comments
        ("a {{- 1 -}} b", "a1b"),
        ("a\n\t{{- /* c */ -}}\n b{{/* d */}} e", "ab e"),
        ("{{if .Yes -}}  a  {{- end}} b", "a b"),
        ("{{- .Number -}}", "3"),
        ("{{3 -}} x", "3x"),
    ],
)
def test_render(text: str, expected: str) -> None:
    assert Template(text).render(VALUE) == expected


@pytest.mark.parametrize(
    ("text", "place", "cause"),
    [
        ("{{.Name", "1:7", "unclosed action"),
        ("a\n {{foo}}", "2:3", 'function "foo" not defined'),
        ("{{if .Yes}}", "1:5", "if without {{end}}"),
        ("{{end}}", "1:2", "unexpected {{end}}"),
        ("{{if 1}}{{else}}{{else}}{{end}}", "1:18", "unexpected {{else}}"),
        ("{{if}}{{end}}", "1:4", "missing value"),
        ("{{if 1}}{{end 2}}", "1:14", "unexpected 2 in end"),
        ("{{if 1}}a{{else with 2}}b{{end}}", "1:11", "unexpected with behind the else of if"),
        ("{{.Name | }}", "1:10", "missing value"),
        ("{{(.Name}}", "1:2", "unclosed left paren"),
        ("{{.Name)}}", "1:7", "unexpected ')' in an action"),
        ("{{.Name | `x`}}", "1:10", "non executable command in pipeline: `x`"),
        ("{{$y}}", "1:2", 'undefined variable "$y"'),
        ("{{$y = 1}}", "1:2", 'undefined variable "$y"'),
        ("{{with $x := 1}}{{end}}{{$x}}", "1:25", 'undefined variable "$x"'),
        ("{{if $a, $b := .Words}}{{end}}", "1:7", "too many declarations"),
        ('{{"abc}}', "1:2", "unterminated quoted string"),
        (r'{{"\ud800"}}', "1:3", r"unknown escape sequence \u"),
        ("{{'ab'}}", "1:2", "malformed character constant"),
        ("{{1x}}", "1:2", "bad number syntax: '1x'"),
        ("{{.Name%}}", "1:7", "unexpected '%' in an action"),
        ('{{.Name"x"}}', "1:7", "unexpected 'x' in an operand"),
        ("{{/* a", "1:2", "unclosed comment"),
        ("{{/* a */ b}}", "1:7", "comment ends before closing delimiter"),
        ('{{define "x"}}{{end}}', "1:2", "define is not supported"),
        ("{{" + "(" * 5000 + "}}", "1:0", "nested too deeply"),
    ],
)
def test_what_is_no_template(text: str, place: str, cause: str) -> None:
    with pytest.raises(UsageError) as error:
        Template(text)
    assert error.value.message == f"template parsing error: template: :{place}: {cause}"


@pytest.mark.parametrize(
    ("text", "place", "context", "cause"),
    [
        ("{{.Foo}}", "1:2", ".Foo", 'map has no entry for key "Foo"'),
        ("x {{.foo}}", "1:4", ".foo", 'map has no entry for key "foo"'),
        ("\n{{.State.Foo}}", "2:2", ".State.Foo", 'map has no entry for key "Foo"'),
        ("{{.State.Health.Status}}", "1:2", ".State.Health.Status", "nil pointer evaluating interface {}.Status"),
        ("{{.Labels.SomeVeryLongNameOfALabel}}", "1:2", ".Labels.SomeVeryLong...", "map has no entry for key"),
        ("{{.Name.Foo}}", "1:2", ".Name.Foo", "can't evaluate field Foo in type string"),
        ("{{.Name .Id}}", "1:2", ".Name", "can't give argument to non-function .Name"),
        ("{{1 2}}", "1:2", "1", "can't give argument to non-function 1"),
        ("{{.Label}}", "1:2", ".Label", "wrong number of args for Label: want 1 got 0"),
        ("{{upper 1 2}}", "1:2", "upper", "wrong number of args for upper: want 1 got 2"),
        ("{{index}}", "1:2", "index", "wrong number of args for index: want at least 1 got 0"),
        ("{{and}}", "1:2", "and", "wrong number of args for and: want at least 1 got 0"),
        ("{{upper .Number}}", "1:2", "upper", "error calling upper: wrong type for value; expected string; got int"),
        ("{{join .Name `x`}}", "1:2", "join", "expected []string; got string"),
        ("{{eq .Number `3`}}", "1:2", "eq", "error calling eq: incompatible types for comparison"),
        ("{{lt .Words .Words}}", "1:2", "lt", "invalid type for comparison"),
        ("{{index .Words 3}}", "1:2", "index", "error calling index: index out of range: 3"),
        ("{{index .Words `a`}}", "1:2", "index", "cannot index slice/array with type string"),
        ("{{index .Ports `x` 0}}", "1:2", "index", "index of untyped nil"),
        ("{{slice .Id 5 2}}", "1:2", "slice", "index out of range: 5 2"),
        ("{{len .Number}}", "1:2", "len", "len of type int"),
        ("{{range .Number}}{{end}}", "1:8", ".Number", "range can't iterate over 3"),
        ("{{printf .Number}}", "1:2", "printf", "expected string; got int"),
    ],
)
def test_what_cannot_be_carried_out(text: str, place: str, context: str, cause: str) -> None:
    template = Template(text)
    with pytest.raises(UsageError) as error:
        template.render(VALUE)
    assert error.value.path == f"template: :{place}"
    assert error.value.cause.startswith(f'executing "" at <{context}>: ')
    assert cause in error.value.cause


def test_a_word_that_is_nearly_right_is_suggested() -> None:
    with pytest.raises(UsageError) as error:
        Template("{{.State.Statsu}}").render(VALUE)
    assert error.value.hint == "did you mean `Status`?"


def test_escapes_outside_of_actions_are_for_lists_only() -> None:
    text = r'{{.Name}}\t{{"\t"}}\n'
    assert Template(text, escapes=True).render(VALUE) == "/web\t\t\n"
    assert Template(text).render(VALUE) == "/web\\t\t\\n"


@pytest.mark.parametrize(
    ("text", "field", "named", "used"),
    [
        ("{{.Size}}", "Size", True, True),
        ("{{if .Yes}}{{len .Size}}{{end}}", "Size", True, True),
        ("{{.Name}}", "Size", False, False),
        ("{{json .}}", "Size", False, True),
        ("{{$}}", "Size", False, True),
    ],
)
def test_which_fields_it_shows(text: str, field: str, named: bool, used: bool) -> None:
    template = Template(text)
    assert (template.names(field), template.uses(field)) == (named, used)


def test_nothing_of_python_can_be_reached() -> None:
    for text in ("{{.__class__}}", "{{.Name.__class__}}", "{{.Label.__globals__}}", "{{__import__}}"):
        with pytest.raises(UsageError):
            Template(text).render(VALUE)
