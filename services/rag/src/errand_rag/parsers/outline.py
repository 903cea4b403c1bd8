"""Text below a path of headings."""

from errand_rag.domain.models import Section

_SEPARATOR = " > "


class Outline:
    """Collects sections; the heading of each is the path that leads to it, title left out."""

    def __init__(self) -> None:
        self.sections: list[Section] = []
        self.title = ""
        self._path: list[tuple[int, str]] = []

    def enter(self, level: int, heading: str) -> None:
        """What follows stands below this heading; level 1 is the highest."""
        self._path = [(other, text) for other, text in self._path if other < level]
        self._path.append((level, heading))
        if level == 1 and not self.title:
            self.title = heading

    def add(self, text: str) -> None:
        """Text at the present place."""
        if text.strip():
            self.sections.append(Section(text=text, heading=self._heading()))

    def _heading(self) -> str:
        names = [text for _, text in self._path if text]
        # The document's title stands above everything: it is told apart, not in each heading.
        below = names[1:] if len(names) > 1 and names[0] == self.title else names
        return _SEPARATOR.join(below)
