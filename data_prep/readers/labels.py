"""The order of labels that a publisher does not list."""

from collections import Counter


def by_frequency(counts: Counter[str]) -> list[str]:
    """The most frequent first, equal ones by name: the same on every machine."""
    return sorted(counts, key=lambda label: (-counts[label], label))
