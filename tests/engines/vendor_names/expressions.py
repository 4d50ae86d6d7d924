"""What an expression may stand for, and what an assignment binds."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from tests.engines.vendor_names.api import Versions
from tests.engines.vendor_names.calls import Call, builtin, opaque, result
from tests.engines.vendor_names.facts import (
    NOTHING,
    UNKNOWN,
    Facts,
    Thing,
    Things,
    contained,
    known,
    of_vendors,
)

Comprehension = ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp
# Methods of containers that return a container again.
_SAME_DEPTH = {"copy", "items", "keys", "values"}


class Expressions:
    """The expressions of one scope. `versions` are those that come to where an expression stands."""

    def __init__(self, facts: Facts, scope: str) -> None:
        self.facts = facts
        self.scope = scope

    def narrow(self, node: ast.expr, versions: Versions) -> tuple[Versions, Versions]:
        """Return the versions in which a condition may hold, and in which it may not."""
        match node:
            case ast.UnaryOp(op=ast.Not()):
                true, false = self.narrow(node.operand, versions)
                return false, true
            case ast.BoolOp():
                going, out = versions, frozenset()
                for value in node.values:
                    true, false = self.narrow(value, going)
                    going, past = (true, false) if isinstance(node.op, ast.And) else (false, true)
                    out |= past
                return (going, out) if isinstance(node.op, ast.And) else (out, going)
            case ast.Call(func=ast.Name(id="hasattr"), args=[owner, ast.Constant(value=str() as name)]):
                return self.facts.guard(self.of(owner, versions), name, self.scope, node, versions)
        self.of(node, versions)
        return versions, versions

    def of(self, node: ast.AST, versions: Versions) -> Things:
        """Return what an expression stands for; a function that is not called here may be, elsewhere."""
        things = self.callee(node, versions)
        if isinstance(node, ast.Attribute):  # of what holds others: it may be one of them
            owners = self.of(node.value, versions)
            things |= contained(frozenset(owner for owner in owners if owner.depth), -1)
        for thing in things:
            if thing.kind in ("function", "method"):
                self.facts.reached(thing.path, versions)
        return things

    def of_all(self, nodes: Sequence[ast.AST], versions: Versions) -> Things:
        """Return what any of some expressions stands for."""
        return NOTHING.union(*(self.of(node, versions) for node in nodes))

    def callee(self, node: ast.AST, versions: Versions) -> Things:  # noqa: PLR0912 - one table
        """Return what an expression stands for, which may be a function that is called here."""
        found: Things = NOTHING
        match node:
            case ast.Name():
                found = self.facts.lookup(self.scope, node.id)
            case ast.Attribute():
                found = self.facts.members(self.of(node.value, versions), self.scope, node, versions)
            case ast.Call():
                found = self._call(node, versions)
            case ast.IfExp():
                true, false = self.narrow(node.test, versions)
                found = self.of(node.body, true) | self.of(node.orelse, false)
            case ast.BoolOp():
                for value in node.values:
                    found |= self.of(value, versions)
                    versions = self.narrow(value, versions)[0 if isinstance(node.op, ast.And) else 1]
            case ast.Tuple() | ast.List() | ast.Set() | ast.Dict():
                found = contained(self.of_all(list(ast.iter_child_nodes(node)), versions))
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
                found = self._comprehension(node, versions)
            case ast.Subscript():
                found = self._subscript(node, versions)
            case ast.Lambda():
                for parameter in node.args.args:
                    self.facts.learn(f"{self.scope}.{parameter.arg}", frozenset({UNKNOWN}))
                self.of(node.body, versions)
            case ast.NamedExpr():
                found = self.of(node.value, versions)
                self.bind(node.target, found, versions)
            case ast.Starred():
                found = contained(self.of(node.value, versions), -1)
            case ast.Yield():
                given = self.of(node.value, versions) if node.value else NOTHING
                self.facts.learn(f"{self.scope}()", contained(given))
            case ast.JoinedStr() | ast.FormattedValue() | ast.Compare() | ast.UnaryOp(op=ast.Not()):
                self.of_all(list(ast.iter_child_nodes(node)), versions)
            case _:
                given = self.of_all(list(ast.iter_child_nodes(node)), versions)
                found = opaque(self.facts, given, node)
        return found

    def bind(
        self, target: ast.expr, things: Things, versions: Versions, value: ast.expr | None = None
    ) -> None:
        """Assign things to a target; `value` is the expression, where one stands there."""
        match target:
            case ast.Name():
                self.facts.learn(f"{self.scope}.{target.id}", things)
            case ast.Attribute():
                self.of(target, versions)
                owners = self.callee(target.value, versions)
                for owner in owners:
                    if owner.kind in ("own class", "own instance"):
                        self.facts.learn(f"{owner.path}.{target.attr}", things)
                if self.facts.settled and not owners and of_vendors(things):
                    self.bind(target.value, contained(things), versions)
            case ast.Subscript():
                self.of(target, versions)
                self.bind(target.value, contained(things), versions)
            case ast.Tuple() | ast.List():
                parts = value.elts if isinstance(value, ast.Tuple) else []
                for number, element in enumerate(target.elts):
                    if len(parts) == len(target.elts):
                        self.bind(element, self.of(parts[number], versions), versions, parts[number])
                    else:
                        self.bind(element, contained(things, -1), versions)
            case ast.Starred():
                self.bind(target.value, contained(things), versions)

    def _subscript(self, node: ast.Subscript, versions: Versions) -> Things:
        self.of(node.slice, versions)
        things = self.of(node.value, versions)
        if isinstance(node.slice, ast.Slice):
            return things
        held = frozenset(thing for thing in things if thing.depth)
        if any(thing.kind in ("module", "class") for thing in things - held):
            self.facts.problem(self.scope, node, f"{ast.unparse(node)} is not followed")
        return contained(held, -1) | opaque(self.facts, things - held, node)

    def _comprehension(self, node: Comprehension, versions: Versions) -> Things:
        for part in node.generators:
            self.bind(part.target, contained(self.of(part.iter, versions), -1), versions)
            for condition in part.ifs:
                versions = self.narrow(condition, versions)[0]
        parts = (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,)
        return contained(self.of_all(parts, versions))

    def _call(self, node: ast.Call, versions: Versions) -> Things:
        match node:
            case ast.Call(func=ast.Name(id="hasattr"), args=[_, ast.Constant()]):
                self.narrow(node, versions)
                return NOTHING
            case ast.Call(
                func=ast.Name(id="getattr"), args=[owner, ast.Constant(value=str() as name), *rest]
            ):
                return self._getattr(node, owner, name, rest, versions)
        positional = [self.of(argument, versions) for argument in node.args]
        keywords = {
            keyword.arg: contained(self.of(keyword.value, versions), 0 if keyword.arg else -1)
            for keyword in node.keywords
        }
        call = Call(node, self.scope, versions, positional, keywords)
        callees = known(self.callee(node.func, versions))
        if isinstance(node.func, ast.Name) and not callees:
            return builtin(self.facts, node.func.id, call)
        found: Things = NOTHING
        for thing in callees:
            found |= self._from_container(thing, call) if thing.depth else result(self.facts, thing, call)
        if not callees:  # of something plain, which may keep what it is given
            if self.facts.settled and isinstance(node.func, ast.Attribute) and of_vendors(call.given):
                self.bind(node.func.value, contained(call.given), versions)
            found = opaque(self.facts, call.given, node)
        return found

    def _from_container(self, thing: Thing, call: Call) -> Things:
        """Return what a container's method returns, or a callable from a container."""
        held = frozenset({thing})
        function = call.node.func
        if not isinstance(function, ast.Attribute):
            return contained(held, -1)
        self.bind(function.value, contained(call.given), call.versions)
        return held if function.attr in _SAME_DEPTH else contained(held, -1) | call.given

    def _getattr(
        self, node: ast.Call, owner: ast.expr, name: str, default: list[ast.expr], versions: Versions
    ) -> Things:
        """Return what `getattr` returns: with a default it asks, as `hasattr` does."""
        access = ast.copy_location(ast.Attribute(owner, name, ast.Load()), node)
        if not default:
            return self.of(access, versions)
        true, false = self.facts.guard(self.of(owner, versions), name, self.scope, node, versions)
        return self.of(access, true) | self.of_all(default, false)
