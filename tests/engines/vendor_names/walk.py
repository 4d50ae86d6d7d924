"""Statements, and the versions that get past each; and the walk over all modules together."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence

from tests.engines.vendor_names.api import Api, Versions
from tests.engines.vendor_names.calls import parameters_of
from tests.engines.vendor_names.expressions import Expressions
from tests.engines.vendor_names.facts import NOTHING, Facts, Findings, Thing, contained


def find_uses(sources: Mapping[str, str], api: Api) -> Findings:
    """Return what modules do with the vendors' names.

    Args:
        sources: Source text by module name.
        api: The vendors' names.
    """
    facts = Facts({module: ast.parse(source) for module, source in sources.items()}, api)
    for module in facts.trees:
        facts.learn(module, frozenset({Thing("own module", module)}))
    while True:
        before = facts.size()
        facts.findings = Findings()
        for module, tree in facts.trees.items():
            _Walker(facts, module).block(tree.body, api.versions)
        if facts.size() == before and not facts.settled:
            facts.settled = True
        elif facts.size() == before:
            # What nothing here was seen to call may be called from anywhere.
            lost = [path for path, versions in facts.reach.items() if not versions]
            if not lost:
                return facts.findings
            for path in lost:
                facts.reached(path, api.versions)


class _Walker:
    """Walks one scope; whatever returns versions returns those that get past it."""

    def __init__(self, facts: Facts, scope: str) -> None:
        self.facts = facts
        self.scope = scope
        expressions = Expressions(facts, scope)
        self.of, self.of_all = expressions.of, expressions.of_all
        self.narrow, self.bind = expressions.narrow, expressions.bind

    def block(self, body: Sequence[ast.stmt], versions: Versions) -> Versions:
        for statement in body:
            versions = self.statement(statement, versions)
        return versions

    def statement(self, node: ast.stmt, versions: Versions) -> Versions:  # noqa: PLR0912 - one table
        match node:
            case ast.If():
                true, false = self.narrow(node.test, versions)
                return self.block(node.body, true) | self.block(node.orelse, false)
            case ast.Assert():
                return self.narrow(node.test, versions)[0]
            case ast.While():
                true, false = self.narrow(node.test, versions)
                self.block(node.body, true)
                self.block(node.orelse, false)
            case ast.For():
                self.bind(node.target, contained(self.of(node.iter, versions), -1), versions)
                self.block([*node.body, *node.orelse], versions)
            case ast.With():
                for item in node.items:
                    self.enter(item, versions)
                return self.block(node.body, versions)
            case ast.Try():
                past = self.block(node.orelse, self.block(node.body, versions))
                for handler in node.handlers:
                    past |= self.handler(handler, versions)
                self.block(node.finalbody, versions)
                return past
            case ast.Return() | ast.Raise() | ast.Break() | ast.Continue():
                things = self.of_all(list(ast.iter_child_nodes(node)), versions)
                if isinstance(node, ast.Return):
                    self.facts.learn(f"{self.scope}()", things)
                return frozenset()
            case ast.FunctionDef():
                self.function(node, versions)
            case ast.ClassDef():
                self.define_class(node, versions)
            case ast.Import() | ast.ImportFrom():
                self.imports(node)
            case ast.Assign():
                for target in node.targets:
                    self.bind(target, self.of(node.value, versions), versions, node.value)
            case ast.AnnAssign():
                value = self.of(node.value, versions) if node.value else NOTHING
                self.bind(node.target, value | self.facts.annotated(self.scope, node.annotation), versions)
            case ast.AugAssign():
                self.bind(node.target, self.of(node.value, versions), versions)
            case ast.Expr() | ast.Delete():
                self.of_all(list(ast.iter_child_nodes(node)), versions)
            case ast.Pass():
                pass
            case _:
                self.facts.problem(self.scope, node, f"a {type(node).__name__} is not followed")
        return versions

    def enter(self, item: ast.withitem, versions: Versions) -> None:
        things = self.of(item.context_expr, versions)
        for thing in things:
            if thing.kind == "instance" and not thing.depth:
                self.facts.vendor_member(thing, "__enter__", self.scope, item.context_expr, versions)
        if item.optional_vars is not None:
            self.bind(item.optional_vars, things | contained(things, -1), versions)

    def handler(self, node: ast.ExceptHandler, versions: Versions) -> Versions:
        things = self.of(node.type, versions) if node.type else NOTHING
        if node.name is not None:
            errors = {Thing("instance", thing.path) for thing in things if thing.kind == "class"}
            self.facts.learn(f"{self.scope}.{node.name}", frozenset(errors))
        return self.block(node.body, versions)

    def imports(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            whole = alias.name if isinstance(node, ast.Import) else f"{node.module}.{alias.name}"
            path = whole if alias.asname or isinstance(node, ast.ImportFrom) else whole.partition(".")[0]
            owner, _, name = path.rpartition(".")
            found = frozenset({Thing("library", path)})
            if path in self.facts.trees:
                found = frozenset({Thing("own module", path)})
            elif owner in self.facts.trees:
                found = frozenset(self.facts.bound.get(path, ()))
            elif path in self.facts.api.modules:
                found = frozenset({Thing("module", path)})
            elif owner in self.facts.api.modules:
                module = Thing("module", owner)
                found = self.facts.vendor_member(module, name, self.scope, node, self.facts.api.versions)
            self.facts.learn(f"{self.scope}.{alias.asname or path.rpartition('.')[2]}", found)

    def function(self, node: ast.FunctionDef, versions: Versions) -> None:
        path = f"{self.scope}.{node.name}"
        facts = self.facts
        facts.definitions[path] = node
        facts.learn(path, frozenset({Thing("function", path)}))
        decorators = {ast.unparse(decorator) for decorator in node.decorator_list}
        for expression in (*node.args.defaults, *filter(None, node.args.kw_defaults)):
            self.of(expression, versions)
        for number, parameter in enumerate(parameters_of(node)):
            if number == 0 and facts.is_class(self.scope) and "staticmethod" not in decorators:
                kind = "own class" if "classmethod" in decorators else "own instance"
                facts.learn(f"{path}.{parameter.arg}", frozenset({Thing(kind, self.scope)}))
            else:
                facts.learn(f"{path}.{parameter.arg}", facts.annotated(self.scope, parameter.annotation))
        for rest in filter(None, (node.args.vararg, node.args.kwarg)):
            facts.learn(f"{path}.{rest.arg}", contained(facts.annotated(self.scope, rest.annotation)))
        facts.learn(f"{path}()", facts.annotated(self.scope, node.returns) if node.returns else NOTHING)
        # Others may call what is public, in every version that comes here; the rest is called by us.
        is_private = node.name.startswith("_") and not node.name.endswith("__")
        facts.reached(path, frozenset() if is_private else versions)
        _Walker(facts, path).block(node.body, frozenset(facts.reach[path]))

    def define_class(self, node: ast.ClassDef, versions: Versions) -> None:
        path = f"{self.scope}.{node.name}"
        self.facts.definitions[path] = node
        self.facts.learn(path, frozenset({Thing("own class", path)}))
        bases = self.of_all(node.bases, versions)
        self.facts.bases.setdefault(path, set()).update(bases)
        _Walker(self.facts, path).block(node.body, versions)
        self.facts.check_subclass(path, node, versions)
