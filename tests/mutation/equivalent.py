"""Mutants that no test can tell from the rule, each with the reason why."""

# (file in the package, the change as the tool prints it): the reason.
EQUIVALENT: dict[tuple[str, str], str] = {}
