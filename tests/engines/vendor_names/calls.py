"""What a call may return, and what a function of ours is given by it."""

from __future__ import annotations

import ast
from dataclasses import dataclass

from tests.engines.vendor_names.api import CALLS, PLAIN, Versions
from tests.engines.vendor_names.facts import NOTHING, UNKNOWN, Facts, Thing, Things, contained, of_vendors

# What these return is no vendor's, whatever they are given; ...
_PLAIN_BUILTINS = {"bool", "bytes", "float", "hasattr", "int", "isinstance", "len", "range", "repr", "str"}
# ... and these hold what they are given.
_CONTAINERS = {"dict", "enumerate", "frozenset", "list", "reversed", "set", "sorted", "tuple", "zip"}
_BY_NAME = {"hasattr", "getattr", "setattr", "delattr", "vars"}


@dataclass(frozen=True, slots=True)
class Call:
    """A call with what its arguments stand for."""

    node: ast.Call
    scope: str
    versions: Versions
    positional: list[Things]
    keywords: dict[str | None, Things]

    @property
    def given(self) -> Things:
        return NOTHING.union(*self.positional, *self.keywords.values())


def result(facts: Facts, thing: Thing, call: Call) -> Things:
    """Return what a call of a thing returns."""
    found: Things = NOTHING
    match thing.kind:
        case "class":
            found = frozenset({Thing("instance", thing.path)})
        case "member":
            kind = CALLS.get(thing.path)
            if kind is None:
                found = frozenset({Thing("opaque", f"{thing.path}()")})
            elif kind != PLAIN:
                found = frozenset({Thing("instance", kind)})
        case "own class":
            _construct(facts, thing.path, call)
            found = frozenset({Thing("own instance", thing.path)})
        case "function" | "method":
            _apply(facts, thing, call)
            found = frozenset(facts.bound.get(f"{thing.path}()", ()))
        case "library" if thing.path == "importlib.import_module":
            found = _imported(facts, call.node)
        case "unknown" if facts.settled:
            found = frozenset({UNKNOWN})
        case _:
            found = opaque(facts, call.given | {thing}, call.node)
    return found


def builtin(facts: Facts, name: str, call: Call) -> Things:
    """Return what a call of a name returns that nothing is known about, as of Python's own functions."""
    given = call.given
    if name == "super" and not call.node.args:
        owner = call.scope
        while not facts.is_class(owner) and owner not in facts.trees:
            owner = owner.rpartition(".")[0]
        return facts.parents(Thing("own instance", owner))
    if name in _BY_NAME and of_vendors(given):
        facts.problem(call.scope, call.node, f"{ast.unparse(call.node)} is not followed")
    if name == "int":
        for thing in given:
            if thing.kind == "instance" and thing.path.startswith("pycuda."):
                facts.vendor_member(thing, "__int__", call.scope, call.node, call.versions)
    if name in _CONTAINERS:
        return given if all(thing.depth for thing in given) else contained(given)
    return NOTHING if name in _PLAIN_BUILTINS else opaque(facts, given, call.node)


def opaque(facts: Facts, things: Things, node: ast.AST) -> Things:
    """Return what comes of things in a way that is not followed."""
    lost = facts.settled and of_vendors(things)
    return frozenset({Thing("opaque", ast.unparse(node))}) if lost else NOTHING


def parameters_of(node: ast.FunctionDef) -> list[ast.arg]:
    """Return all but `*` and `**`, in order."""
    return [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]


def _imported(facts: Facts, node: ast.Call) -> Things:
    match node.args:
        case [ast.Constant(value=str() as name)]:
            return frozenset({Thing("module" if name in facts.api.modules else "library", name)})
    return frozenset({UNKNOWN})


def _construct(facts: Facts, path: str, call: Call) -> None:
    """Hand arguments to a class of ours: to its `__init__`, or else to its fields."""
    if f"{path}.__init__" in facts.definitions:
        _apply(facts, Thing("method", f"{path}.__init__"), call)
        return
    fields = [
        item.target.id
        for item in facts.definitions[path].body
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
    ]
    spread = call.given if _is_spread(call) else NOTHING
    given = {**dict(zip(fields, call.positional, strict=False)), **call.keywords}
    for name in fields:
        facts.learn(f"{path}.{name}", (given.get(name, NOTHING) | spread) - {UNKNOWN})


def _apply(facts: Facts, thing: Thing, call: Call) -> None:
    """Hand arguments to a function of ours."""
    facts.reached(thing.path, call.versions)
    definition = facts.definitions[thing.path]
    assert isinstance(definition, ast.FunctionDef)
    parameters = parameters_of(definition)[1 if thing.kind == "method" else 0 :]
    positional = [it.arg for it in parameters if it not in definition.args.kwonlyargs]
    given = {**dict(zip(positional, call.positional, strict=False)), **call.keywords}
    spread = call.given if _is_spread(call) else NOTHING
    for parameter in parameters:
        things = given.get(parameter.arg, NOTHING) | spread
        if things == {UNKNOWN} and facts.annotated(call.scope, parameter.annotation) == {UNKNOWN}:
            facts.problem(call.scope, call.node, f"nothing tells what is handed on as {parameter.arg}")
        facts.learn(f"{thing.path}.{parameter.arg}", things - {UNKNOWN})
    for rest in filter(None, (definition.args.vararg, definition.args.kwarg)):
        facts.learn(f"{thing.path}.{rest.arg}", contained(call.given))


def _is_spread(call: Call) -> bool:
    """Return whether there are `*` or `**`: then any argument may be any parameter's."""
    return None in call.keywords or any(isinstance(argument, ast.Starred) for argument in call.node.args)
