"""The language of `execute`."""

from typing import Any

import pytest

from app.sandbox.script import CompileError, ScriptError, run


def echo(name: str, params: dict[str, Any]) -> Any:
    return {"method": name, **params}


@pytest.mark.parametrize(
    ("code", "result"),
    [
        ("", None),
        ("return;", None),
        ("return 1 + 2 * 3 - 4 / 2 % 3;", 5),
        ("return (1 + 2) * -3;", -9),
        ('return "a" + 1 + true + null;', "a1truenull"),
        ("return [1] + [2];", [1, 2]),
        ("return 1 < 2 && 2 <= 2 && !(3 == 4) && 3 !== 4 || false;", True),
        (r"""return "\u043f\"\\\n" + 'it\'s "so"';""", 'п"\\\nit\'s "so"'),
        ('return {a: 1, "b": {c: [2, 3,],}, 4: null};', {"a": 1, "b": {"c": [2, 3]}, "4": None}),
        ("var a = 1, b; a = a + 1; return [a, b, unknown];", [2, None, None]),
        ("var o = {}; o.a = 1; o['b'] = [1]; o.b[0] = 2; o.b[1] = 3; delete o.a; return o;", {"b": [2, 3]}),
        ("var i = 0, r = []; while (i < 3) { r.push(i); i = i + 1; } return r;", [0, 1, 2]),
        ("if (0) return 1; else if ([]) { return 2; } return 3;", 2),
        ("return API.users.get({user_ids: [1, 2]}).user_ids[1];", 2),
        ("return API.messages.send();", {"method": "messages.send"}),
        ('return [{"id": 1}, {"id": 2}, {}]@.id;', [1, 2, None]),
        ('var l = [3, 4, 5]; return [l.length, l.slice(1), l.splice(0, 2), l, l.indexOf(5), l.pop(), "a,b".split(",")];',
         [3, [4, 5], [3, 4], [], 0, 5, ["a", "b"]]),
        ('return ["abc".length, "abcd".substr(1, 2), parseInt("7") + parseDouble("0.5"), [1, 2].join("-")];',
         [3, "bc", 7.5, "1-2"]),
        ("return Args.name;", "value"),
        ("// a comment\nreturn /* another */ 1;", 1),
        ("var variable = 1, returned = 2, trueish = 3; return variable + returned + trueish;", 6),
    ],
)  # fmt: skip
def test_programs(code: str, result: Any) -> None:
    assert run(code, echo, {"name": "value"}) == result


@pytest.mark.parametrize("code", ["return 1", "var 1;", "return {;", "function f() {}", 'return "open;', "}"])
def test_what_cannot_be_read_is_said_with_its_place(code: str) -> None:
    with pytest.raises(CompileError, match=r"line .* character"):
        run(code, echo, {})


@pytest.mark.parametrize(
    "code", ["while (true) {}", "return 1 / 0;", "return nothing();", "return null + 1;", "return (1).slice(0);", "delete a.b;"]
)
def test_what_goes_wrong_on_the_way_stops_the_program(code: str) -> None:
    with pytest.raises(ScriptError):
        run(code, echo, {})


def test_deep_nesting_is_refused_and_does_no_harm() -> None:
    with pytest.raises(ScriptError):
        run(f"return {'(-' * 5000}1{')' * 5000};", echo, {})
