"""VKScript, the language of `execute`: the part of it that bots and vk_api write.

`var`, assignment, `if`, `while`, `return`, `delete`, arithmetic, comparison, lists, objects, `list@.key`,
`API.section.method({…})`, `Args`, `parseInt`, `parseDouble`, and the methods of lists and strings in `_METHODS`.
"""

import json
import operator
import re
from collections.abc import Callable
from typing import Any

from lark import Lark, Token, Tree, v_args
from lark.exceptions import UnexpectedInput
from lark.visitors import Interpreter

Call = Callable[[str, dict[str, Any]], Any]
Node = Tree[Token]

MAX_STEPS = 100_000  # a loop that does not end is stopped

_PARSER = Lark(
    r"""
start: statement* -> block
?statement: "var" definition ("," definition)* ";" -> block
    | target "=" expression ";" -> assign
    | target ";"
    | "delete" target ";" -> delete
    | "return" expression? ";" -> return_
    | "if" "(" expression ")" statement ("else" statement)? -> if_
    | "while" "(" expression ")" statement -> while_
    | "{" statement* "}" -> block
    | ";" -> block
definition: name ("=" expression)? -> assign
?target: name
    | target "." NAME -> member
    | target "[" expression "]" -> index
    | target "@." NAME -> pluck
    | target "(" (expression ("," expression)*)? ")" -> call

?expression: conjunction | expression "||" conjunction -> or_
?conjunction: equality | conjunction "&&" equality -> and_
?equality: comparison | equality EQUALITY comparison -> binary
?comparison: sum | comparison RELATION sum -> binary
?sum: product | sum SUM product -> binary
?product: unary | product PRODUCT unary -> binary
?unary: value | "!" unary -> not_ | SUM unary -> signed
?value: primary
    | value "." NAME -> member
    | value "[" expression "]" -> index
    | value "@." NAME -> pluck
    | value "(" (expression ("," expression)*)? ")" -> call
?primary: name
    | NUMBER -> literal
    | STRING -> literal
    | WORD -> literal
    | "[" (expression ("," expression)* ","?)? "]" -> list
    | "{" (pair ("," pair)* ","?)? "}" -> object
    | "(" expression ")"
name: NAME
pair: (NAME | STRING | NUMBER) ":" expression

WORD.2: /(true|false|null)\b/
NAME: /[A-Za-z_$][\w$]*/
NUMBER: /\d+(\.\d+)?/
STRING: /"(\\.|[^"\\])*"|'(\\.|[^'\\])*'/s
EQUALITY: /[!=]==?/
RELATION: /[<>]=?/
SUM: /[+-]/
PRODUCT: /[*\/%]/
COMMENT: /\/\/[^\n]*|\/\*.*?\*\//s
%ignore /\s+/
%ignore COMMENT
""",
    parser="lalr",
)


def _text(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _add(left: Any, right: Any) -> Any:
    return _text(left) + _text(right) if isinstance(left, str) or isinstance(right, str) else left + right


_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "+": _add,
    "==": operator.eq,
    "===": operator.eq,
    "!=": operator.ne,
    "!==": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "%": operator.mod,
}


def _splice(items: list[Any], start: int, count: int) -> list[Any]:
    taken = items[start : start + count]
    del items[start : start + count]
    return taken


_METHODS: dict[tuple[type, str], Callable[..., Any]] = {
    (list, "push"): list.append,
    (list, "pop"): lambda items: items.pop() if items else None,
    (list, "shift"): lambda items: items.pop(0) if items else None,
    (list, "unshift"): lambda items, item: items.insert(0, item),
    (list, "slice"): lambda items, start, end=None: items[start:end],
    (list, "splice"): _splice,
    (list, "indexOf"): lambda items, item: items.index(item) if item in items else -1,
    (list, "join"): lambda items, between=",": between.join(_text(item) for item in items),
    (str, "indexOf"): str.find,
    (str, "slice"): lambda text, start, end=None: text[start:end],
    (str, "split"): lambda text, between: text.split(between),
    (str, "substr"): lambda text, start, count=None: text[start:][:count],
}
_FUNCTIONS: dict[str, Callable[[Any], Any]] = {"parseInt": lambda value: int(float(value)), "parseDouble": float}


class CompileError(Exception):
    """The code cannot be read."""


class ScriptError(Exception):
    """The code was stopped while it ran."""


class _Returned(Exception):
    """Carries the value of `return` out of the loops around it."""

    def __init__(self, value: Any) -> None:
        self.value = value


def run(code: str, call: Call, arguments: dict[str, Any]) -> Any:
    """What `code` returns. `call` is given a method's name and parameters; `arguments` is `Args` in the code.

    Raises `CompileError` and `ScriptError`, and what `call` raises.
    """
    try:
        program = _PARSER.parse(code)
    except UnexpectedInput as error:
        raise CompileError(f"unexpected text on line {error.line} character {error.column}") from None
    try:
        _Machine(call, arguments).visit(program)
    except _Returned as returned:
        return returned.value
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        raise ScriptError(str(error)) from None
    return None


@v_args(inline=True)
class _Machine(Interpreter[Token, Any]):
    """Runs a program. Each method is a rule of the grammar: a statement does something, an expression is worth something."""

    def __init__(self, call: Call, arguments: dict[str, Any]) -> None:
        super().__init__()
        self._call = call
        self._names: dict[str, Any] = {"Args": arguments}
        self._steps = 0

    def visit(self, tree: Node) -> Any:
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise ScriptError("too many operations")
        return super().visit(tree)

    def block(self, *statements: Node) -> None:
        for statement in statements:
            self.visit(statement)

    def assign(self, target: Node, expression: Node | None = None) -> None:
        value = self.visit(expression) if expression else None
        if target.data == "name":
            self._names[_path(target)] = value
            return
        holder, key = self._place(target)
        if isinstance(holder, list) and key == len(holder):
            holder.append(value)
        else:
            holder[key] = value

    def delete(self, target: Node) -> None:
        holder, key = self._place(target)
        del holder[key]

    def return_(self, expression: Node | None = None) -> None:
        raise _Returned(self.visit(expression) if expression else None)

    def if_(self, condition: Node, then: Node, other: Node | None = None) -> None:
        if _true(self.visit(condition)):
            self.visit(then)
        elif other:
            self.visit(other)

    def while_(self, condition: Node, body: Node) -> None:
        while _true(self.visit(condition)):
            self.visit(body)

    def literal(self, token: Token) -> Any:
        return _literal(token)

    def name(self, name: Token) -> Any:
        return self._names.get(name)

    def member(self, holder: Node, key: Token) -> Any:
        return _item(self.visit(holder), str(key))

    def index(self, holder: Node, key: Node) -> Any:
        return _item(self.visit(holder), self.visit(key))

    def pluck(self, holder: Node, key: Token) -> Any:
        return [_item(item, str(key)) for item in self.visit(holder)]

    def list(self, *items: Node) -> Any:
        return [self.visit(item) for item in items]

    def object(self, *pairs: Node) -> Any:
        return dict(self.visit(pair) for pair in pairs)

    def pair(self, key: Token, value: Node) -> Any:
        return str(_literal(key) if key.type == "STRING" else key), self.visit(value)

    def or_(self, left: Node, right: Node) -> Any:
        return _true(self.visit(left)) or _true(self.visit(right))

    def and_(self, left: Node, right: Node) -> Any:
        return _true(self.visit(left)) and _true(self.visit(right))

    def not_(self, operand: Node) -> Any:
        return not _true(self.visit(operand))

    def signed(self, sign: Token, operand: Node) -> Any:
        return -self.visit(operand) if sign == "-" else +self.visit(operand)

    def binary(self, left: Node, sign: Token, right: Node) -> Any:
        return _OPERATORS[sign](self.visit(left), self.visit(right))

    def call(self, function: Node, *expressions: Node) -> Any:
        arguments = [self.visit(expression) for expression in expressions]
        path = _path(function)
        if path.startswith("API."):
            return self._call(path.removeprefix("API."), arguments[0] if arguments else {})
        if path in _FUNCTIONS:
            return _FUNCTIONS[path](*arguments)
        if function.data == "member":
            holder = self.visit(function.children[0])  # type: ignore[arg-type]  # a member's first child is a tree
            name = path.rpartition(".")[2]
            for (kind, known), method in _METHODS.items():
                if name == known and isinstance(holder, kind):
                    return method(holder, *arguments)
        raise ScriptError(f"there is no function {path}")

    def _place(self, target: Node) -> tuple[Any, Any]:
        """The list or object that holds `target`, and under what."""
        holder, key = target.children
        return self.visit(holder), str(key) if isinstance(key, Token) else self.visit(key)  # type: ignore[arg-type]  # as above


def _path(node: Node | Token) -> str:
    """`a.b.c` as it is written."""
    if isinstance(node, Token):
        return str(node)
    return ".".join(map(_path, node.children)) if node.data in ("name", "member") else f"({node.data})"


def _literal(token: Token) -> Any:
    if not token.startswith("'"):
        return json.loads(token, strict=False)
    return json.loads('"' + re.sub(r"""\\.|\"""", _requote, token[1:-1], flags=re.DOTALL) + '"', strict=False)


def _requote(match: re.Match[str]) -> str:
    return {"\\'": "'", '"': '\\"'}.get(match[0], match[0])


def _true(value: Any) -> bool:
    """As in JavaScript, empty lists and objects are true."""
    return isinstance(value, list | dict) or bool(value)


def _item(holder: Any, key: Any) -> Any:
    """A member or an item; null where there is none."""
    if key == "length" and isinstance(holder, list | str):
        return len(holder)
    if isinstance(holder, dict):
        return holder.get(str(key))
    if isinstance(holder, list | str) and isinstance(key, int) and 0 <= key < len(holder):
        return holder[key]
    return None
