"""What is known about the names in a package while it is walked: what each may stand for.

All names are dotted paths: `engines.tensorrt.cuda.PrimaryContext._driver` is an attribute,
`engines.tensorrt.cuda.PrimaryContext.close.context` a local variable, `...close()` what a function returns.
Nothing is ever forgotten: every round over the sources adds, until a round adds nothing.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tests.engines.vendor_names.api import PLAIN, PROPERTIES, Api, Version, Versions

DEEPEST = 3
Definition = ast.FunctionDef | ast.ClassDef


@dataclass(frozen=True, slots=True)
class Thing:
    """What a name may stand for.

    Attributes:
        kind: Of a vendor: `module`, `class`, `instance`, `member` (not called yet), `opaque` (nobody knows
            what). Ours: `own module`, `own class`, `own instance`, `function`, `method` (bound). Of others:
            `library`. `unknown`: annotated Any, or not at all.
        path: Dotted name.
        depth: Of containers around it.
    """

    kind: str
    path: str = ""
    depth: int = 0


Things = frozenset[Thing]
NOTHING: Things = frozenset()
UNKNOWN = Thing("unknown")
VENDOR = {"module", "class", "instance", "member", "opaque"}


def contained(things: Things, levels: int = 1) -> Things:
    """Return containers of things, or with -1 what containers hold; what is none stays."""
    return frozenset(replace(thing, depth=min(max(thing.depth + levels, 0), DEEPEST)) for thing in things)


def known(things: Things) -> Things:
    """Return things without the unknown one, where there are others: it was only an annotation."""
    return things - {UNKNOWN} or things


def of_vendors(things: Things) -> bool:
    return any(thing.kind in VENDOR for thing in things)


@dataclass(slots=True)
class Findings:
    """What one round has seen.

    Attributes:
        uses: Where each vendor's name is used.
        guards: The versions that lack each name that is asked for.
        plain: Where each attribute is used of something that was found to be nobody's.
        problems: What is wrong, with its place.
    """

    uses: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    guards: dict[str, Versions] = field(default_factory=dict)
    plain: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    problems: set[str] = field(default_factory=set)


class Facts:
    """Knowledge about some modules.

    Args:
        trees: The modules, by name.
        api: The vendors' names.
    """

    def __init__(self, trees: Mapping[str, ast.Module], api: Api) -> None:
        self.trees = trees
        self.api = api
        self.findings = Findings()
        self.bound: dict[str, set[Thing]] = {}
        self.reach: dict[str, set[Version]] = {}
        self.bases: dict[str, set[Thing]] = {}
        self.definitions: dict[str, Definition] = {}
        self.named: set[str] = set()
        # While much is unknown still, nothing is taken for plain: what was learnt from that would stay.
        self.settled = False

    def size(self) -> int:
        """Return a number that grows whenever something is learnt."""
        tables = (self.bound, self.reach, self.bases)
        return sum(1 + len(found) for table in tables for found in table.values())

    def module_of(self, scope: str) -> str:
        while scope not in self.trees:
            scope = scope.rpartition(".")[0]
        return scope

    def problem(self, scope: str, node: ast.AST, text: str) -> None:
        self.findings.problems.add(f"{self.place(scope, node)}: {text}")

    def place(self, scope: str, node: ast.AST) -> str:
        return f"{self.module_of(scope)}:{getattr(node, 'lineno', 0)}"

    def learn(self, path: str, things: Things) -> None:
        self.bound.setdefault(path, set()).update(things)

    def reached(self, path: str, versions: Versions) -> None:
        self.reach.setdefault(path, set()).update(versions)

    def is_class(self, path: str) -> bool:
        return isinstance(self.definitions.get(path), ast.ClassDef)

    def lookup(self, scope: str, name: str) -> Things:
        """Return what a name stands for by Python's rules: this scope, those around it, but no class."""
        around = scope
        while True:
            if (around == scope or not self.is_class(around)) and f"{around}.{name}" in self.bound:
                return frozenset(self.bound[f"{around}.{name}"])
            if around in self.trees:
                return NOTHING
            around = around.rpartition(".")[0]

    def annotated(self, scope: str, node: ast.expr | None) -> Things:
        """Return what an annotation tells: instances of our classes, containers of them, or Any."""
        match node:
            case None | ast.Name(id="Any"):
                return frozenset({UNKNOWN})
            case ast.Constant(value=str() as text):
                return self.annotated(scope, ast.parse(text, mode="eval").body)
            case ast.BinOp():
                return self.annotated(scope, node.left) | self.annotated(scope, node.right)
            case ast.Tuple():
                return NOTHING.union(*(self.annotated(scope, element) for element in node.elts))
            case ast.Subscript():
                return contained(self.annotated(scope, node.slice) - {UNKNOWN})
        found: set[Thing] = set()
        match node:
            case ast.Name():
                found = set(self.lookup(scope, node.id))
            case ast.Attribute(value=ast.Name(id=name)):
                for owner in self.lookup(scope, name):
                    found |= self.bound.get(f"{owner.path}.{node.attr}", set())
        return frozenset(Thing("own instance", thing.path) for thing in found if thing.kind == "own class")

    def members(self, things: Things, scope: str, node: ast.Attribute, versions: Versions) -> Things:
        """Return what `.name` of things stands for, and note what is wrong with it."""
        things = known(things)
        if things == {UNKNOWN}:
            self.problem(scope, node, f"nothing tells what {ast.unparse(node.value)} is: .{node.attr}")
        if not things:
            self.findings.plain[node.attr].add(self.place(scope, node))
        found: set[Thing] = set()
        for thing in things:
            found |= self._member(thing, scope, node, versions)
        return frozenset(found)

    def _member(self, thing: Thing, scope: str, node: ast.Attribute, versions: Versions) -> Things:
        found: Things = NOTHING
        if thing.depth:
            return frozenset({thing})  # a container's method
        match thing.kind:
            case "module" | "class" | "instance":
                found = self.vendor_member(thing, node.attr, scope, node, versions)
            case "member" | "opaque":
                self.problem(scope, node, f"nothing tells what {thing.path} is or returns: .{node.attr}")
            case "own module":
                found = frozenset(self.bound.get(f"{thing.path}.{node.attr}", ()))
            case "own class" | "own instance":
                found = self._own_member(thing, scope, node, versions)
            case "library":
                found = frozenset({Thing("library", f"{thing.path}.{node.attr}")})
        return found

    def vendor_member(self, thing: Thing, name: str, scope: str, node: ast.AST, versions: Versions) -> Things:
        """Return what a vendor's member is, and note the use."""
        path = f"{thing.path}.{name}"
        self.findings.uses[path].add(self.place(scope, node))
        present = self.api.having(path)
        missing = {version for version in versions - present if version.vendor == path.partition(".")[0]}
        if not present:
            self.problem(scope, node, f"no version has {path}")
            return NOTHING
        if missing:
            self.problem(scope, node, f"{path} is not in {numbers(missing)}")
        if path in PROPERTIES:
            kind = PROPERTIES[path]
            return NOTHING if kind == PLAIN else frozenset({Thing("instance", kind)})
        if path in self.api.enum_values:
            return frozenset({Thing("instance", thing.path)})
        for kind, paths in (("module", self.api.modules), ("class", self.api.classes)):
            if path in paths:
                return frozenset({Thing(kind, path)})
        return frozenset({Thing("member", path)})

    def _own_member(self, thing: Thing, scope: str, node: ast.Attribute, versions: Versions) -> Things:
        path = f"{thing.path}.{node.attr}"
        definition = self.definitions.get(path)
        if isinstance(definition, ast.FunctionDef):
            self.named.add(path)
            decorators = {ast.unparse(decorator) for decorator in definition.decorator_list}
            if decorators & {"property", "cached_property", "functools.cached_property"}:
                self.reached(path, versions)
                return frozenset(self.bound.get(f"{path}()", ()))
            is_bound = (thing.kind == "own instance" or "classmethod" in decorators) and (
                "staticmethod" not in decorators
            )
            return frozenset({Thing("method" if is_bound else "function", path)})
        if path in self.bound:
            return frozenset(self.bound[path])
        return self.members(self.parents(thing), scope, node, versions)

    def parents(self, thing: Thing) -> Things:
        """Return the base classes of our class, or for an instance what it is by them."""
        bases = frozenset(self.bases.get(thing.path, ()))
        if thing.kind == "own class":
            return bases
        instances = {"class": "instance", "own class": "own instance"}
        return frozenset(replace(base, kind=instances.get(base.kind, base.kind)) for base in bases)

    def check_subclass(self, path: str, node: ast.ClassDef, versions: Versions) -> None:
        """Note what our subclass of a vendor's interface lacks, and what it defines for nobody."""
        own = {item.name for item in node.body if isinstance(item, ast.FunctionDef) and item.name[0] != "_"}
        for base in self.bases[path]:
            if base.kind != "class" or not re.match("I[A-Z]", base.path.rpartition(".")[2]):
                continue
            for name in sorted(own):
                if self.api.having(f"{base.path}.{name}"):
                    thing = Thing("instance", base.path)
                    self.vendor_member(thing, name, path, node, versions)
                elif f"{path}.{name}" not in self.named:
                    self.problem(path, node, f"{name} overrides nothing of {base.path}, and nobody calls it")
            for name in sorted(self.api.members(base.path) - own):
                if name.islower() and name[0] != "_":
                    self.problem(path, node, f"{base.path}.{name} is not overridden")

    def guard(
        self, things: Things, name: str, scope: str, node: ast.AST, versions: Versions
    ) -> tuple[Versions, Versions]:
        """Return the versions where things have a name, and where not; note a question with one answer."""
        having, lacking = versions, versions
        things = known(things)
        if things == {UNKNOWN} or any(thing.kind in ("opaque", "member") for thing in things):
            self.problem(scope, node, f"nothing tells what is asked for {name}")
        for thing in things:
            if thing.kind not in ("module", "class", "instance"):
                continue
            path = f"{thing.path}.{name}"
            present = self.api.having(path)
            vendor = path.partition(".")[0]
            here = {version for version in versions if version.vendor == vendor}
            if not present:
                self.problem(scope, node, f"no version has {path}, which is asked for")
            elif here and here <= present:
                self.problem(scope, node, f"every version that comes here has {path}: asking is superfluous")
            elif here and not here & present:
                self.problem(scope, node, f"no version that comes here has {path}: asking is superfluous")
            self.findings.guards[path] = frozenset(
                version for version in self.api.versions - present if version.vendor == vendor
            )
            having &= {version for version in versions if version.vendor != vendor or version in present}
            lacking &= {version for version in versions if version not in present}
        return having, lacking


def numbers(versions: set[Version]) -> str:
    """Return versions in words, oldest first."""
    ordered = sorted(versions, key=lambda version: [int(part) for part in version.number.split(".")])
    return ", ".join(f"{version.vendor} {version.number}" for version in ordered)
