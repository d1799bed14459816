"""The active segments of a workspace, compiled, and which of them a change may affect. Pure."""

from collections.abc import Iterable

import msgspec

from rondo_common.records import Definition
from services.segmentation import rules as r
from services.segmentation.evaluate import Program, compile_rule
from services.segmentation.leaf import AddressId, Facet
from services.segmentation.parse import parse


class RuleSet:
    """All active segments of one workspace. A definition that can't be read any more, or nests itself,
    holds nobody; it is listed in `broken`."""

    def __init__(self, definitions: Iterable[Definition], address_id: AddressId):
        self._address_id = address_id
        self.versions: dict[str, int] = {}
        self.rules: dict[str, r.Node] = {}
        self.programs: dict[str, Program] = {}
        self.broken: list[str] = []
        self._open: set[str] = set()
        for d in definitions:
            self.versions[d.id] = d.version
            rule, _ = parse(msgspec.json.decode(d.body).get("rule"))
            if rule is None:
                self.broken.append(d.id)
            else:
                self.rules[d.id] = rule
        for id in sorted(self.rules):
            self.program(id)
        self._affected: dict[Facet, list[str]] = {}
        for id, program in sorted(self.programs.items()):
            for facet in program.facets:
                self._affected.setdefault(facet, []).append(id)
        self.all = sorted(self.programs)

    def program(self, id: str) -> Program | None:
        """The program of a segment, made after those it nests; None for an unknown one."""
        if id in self.programs or id not in self.rules:
            return self.programs.get(id)
        if id in self._open:
            self.broken.append(id)
            return None
        self._open.add(id)
        self.programs[id] = compile_rule(self.rules[id], self._address_id, self.program)
        self._open.discard(id)
        return self.programs[id]

    def compile(self, rule: r.Node) -> Program:
        """The program of a rule that is no segment (a preview's); it may nest the segments of this set."""
        return compile_rule(rule, self._address_id, self.program)

    def affected(self, facets: Iterable[Facet]) -> list[str]:
        """Segments whose answer may change with these facts, also through nesting."""
        found = [self._affected[f] for f in facets if f in self._affected]
        if not found:
            return []
        if len(found) == 1:
            return found[0]
        return sorted({id for ids in found for id in ids})

    def reading(self, *facet: str) -> list[str]:
        """Segments whose answer may change with one kind of fact."""
        return self._affected.get(facet, [])  # type: ignore[call-overload]

    def dependents(self, id: str) -> list[str]:
        """Segments that nest `id`, directly or not."""
        return dependents(self.rules, id)


def dependents(rules: dict[str, r.Node], id: str) -> list[str]:
    """Segments among `rules` that nest `id`, directly or not."""
    found: set[str] = set()
    fresh = {id}
    while fresh:
        fresh = {
            other
            for other, rule in rules.items()
            if other not in found and any(leaf.id in fresh for leaf in r.references(rule))
        }
        found |= fresh
    return sorted(found - {id})


def cycle_through(id: str, rule: r.Node, rules: dict[str, r.Node]) -> r.Segment | None:
    """The reference in `rule` by which segment `id` would come to nest itself; None without a cycle."""
    nesting = {id, *dependents({k: v for k, v in rules.items() if k != id}, id)}
    return next((leaf for leaf in r.references(rule) if leaf.id in nesting), None)
