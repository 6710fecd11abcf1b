"""The mutants of a module: each is its syntax tree with one thing changed.

Not changed: text (sentences are asserted where they matter), annotations, decorators, docstrings, `assert` and what
is logged. A mutant keeps the line numbers of the original, so that tests can be chosen by the lines that they run.
"""

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}
CALLS = {"max": "min", "min": "max", "any": "all", "all": "any"}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change of a module."""

    function: str
    """Qualified name of the function or class around it; empty at the top of the module."""
    in_function: bool
    """False where the module has to be imported anew for the change to count."""
    line: int
    last_line: int
    before: str
    after: str
    tree: ast.Module

    @property
    def change(self) -> str:
        return f"{self.before} → {self.after}"


def mutants(source: str) -> Iterator[Mutant]:
    """Every mutant of a module, in the order of its lines."""
    tree = ast.parse(source)
    for path, scope in _places(tree):
        node = _at(tree, path)
        for replacement in _changes(node):
            changed = copy.deepcopy(tree)
            parent = _at(changed, path[:-1])
            parent_line = getattr(parent, "lineno", node.lineno)
            field, index = path[-1]
            located = ast.fix_missing_locations(ast.copy_location(replacement, node))
            if index is None:
                setattr(parent, field, located)
            else:
                getattr(parent, field)[index] = located
            yield Mutant(
                function=".".join(name for name, _ in scope),
                in_function=any(kind for _, kind in scope),
                # A jump has no line of its own at run time: the interpreter goes from the condition to where it leads.
                line=parent_line if isinstance(node, ast.Break | ast.Continue) else node.lineno,
                last_line=node.end_lineno or node.lineno,
                before=_text(node),
                after=_text(replacement),
                tree=changed,
            )


Path = tuple[tuple[str, int | None], ...]
Scope = tuple[tuple[str, bool], ...]


def _places(tree: ast.Module) -> Iterator[tuple[Path, Scope]]:
    """Where something may be changed: the way from the root, and the functions and classes around it."""

    def walk(node: ast.AST, path: Path, scope: Scope) -> Iterator[tuple[Path, Scope]]:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            scope = (*scope, (node.name, not isinstance(node, ast.ClassDef)))
        for field, value in ast.iter_fields(node):
            if field in (
                "annotation",
                "returns",
                "decorator_list",
                "bases",
                "keywords" * isinstance(node, ast.ClassDef),
            ):
                continue
            inner = scope
            if field == "args" and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                inner = scope[:-1]  # defaults are made when the function is, not when it runs
            items = value if isinstance(value, list) else [value]
            for index, child in enumerate(items):
                if not isinstance(child, ast.AST) or _left_alone(child):
                    continue
                there = (*path, (field, index if isinstance(value, list) else None))
                if isinstance(child, ast.expr | ast.stmt):
                    yield there, inner
                yield from walk(child, there, inner)

    yield from walk(tree, (), ())


def _left_alone(node: ast.AST) -> bool:
    if isinstance(node, ast.Assert | ast.JoinedStr | ast.Import | ast.ImportFrom):
        return True
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return True
    if isinstance(node, ast.Expr):
        call = node.value
        return isinstance(call, ast.Constant) or (
            isinstance(call, ast.Call) and ast.unparse(call.func).startswith("log.")
        )
    return False


def _changes(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.Compare(left, [operator], [right]):
            yield ast.Compare(left, [COMPARISONS[type(operator)]()], [right])
        case ast.Compare(left, operators, rights):
            for i, operator in enumerate(operators):
                changed = [*operators[:i], COMPARISONS[type(operator)](), *operators[i + 1 :]]
                yield ast.Compare(left, changed, rights)
        case ast.BoolOp(operator, values):
            yield ast.BoolOp(ast.Or() if isinstance(operator, ast.And) else ast.And(), values)
            for i in range(len(values)):
                rest = [*values[:i], *values[i + 1 :]]
                yield rest[0] if len(rest) == 1 else ast.BoolOp(operator, rest)
        case ast.UnaryOp(ast.Not(), operand):
            yield operand
        case ast.BinOp(left, operator, right) if type(operator) in ARITHMETIC and not _is_text(left, right):
            yield ast.BinOp(left, ARITHMETIC[type(operator)](), right)
        case ast.Constant(bool() as value):
            yield ast.Constant(not value)
        case ast.Constant(int() | float() as value):
            yield ast.Constant(value + 1)
        case ast.If() | ast.While() | ast.IfExp() if isinstance(
            node.test, ast.Name | ast.Attribute | ast.Call | ast.Await
        ):
            yield _with(node, test=ast.UnaryOp(ast.Not(), node.test))
        case ast.Expr(ast.Call() | ast.Await()) | ast.AugAssign() | ast.Raise():
            yield ast.Pass()
        case ast.Assign([ast.Attribute() | ast.Subscript()], _):
            yield ast.Pass()
        case ast.Return(ast.expr() as value) if not (isinstance(value, ast.Constant)):
            yield ast.Return(ast.Constant(None))
        case ast.Continue():
            yield ast.Break()
        case ast.Break():
            yield ast.Continue()
        case ast.Call(ast.Name(name), arguments, keywords) if name in CALLS:
            yield ast.Call(ast.Name(CALLS[name], ast.Load()), arguments, keywords)
        case ast.GeneratorExp() | ast.ListComp() | ast.SetComp() | ast.DictComp():
            for g, generator in enumerate(node.generators):
                for i in range(len(generator.ifs)):
                    changed = copy.deepcopy(generator)
                    del changed.ifs[i]
                    yield _with(node, generators=[*node.generators[:g], changed, *node.generators[g + 1 :]])


def _with(node: ast.AST, **fields: object) -> ast.AST:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def _is_text(*nodes: ast.expr) -> bool:
    return any(
        isinstance(n, ast.JoinedStr) or (isinstance(n, ast.Constant) and isinstance(n.value, str))
        for n in nodes
    )


def _at(tree: ast.AST, path: Path) -> ast.AST:
    node: ast.AST = tree
    for field, index in path:
        value = getattr(node, field)
        node = value if index is None else value[index]
    return node


def _text(node: ast.AST) -> str:
    """One line, short: the head of a statement that has a body."""
    if isinstance(node, ast.If | ast.While):
        word = "if" if isinstance(node, ast.If) else "while"
        return f"{word} {ast.unparse(node.test)}"
    return " ".join(ast.unparse(node).split())
