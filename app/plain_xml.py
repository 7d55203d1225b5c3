"""XML of strangers, read within limits: no document type, so no entities; bounded in every way."""

from collections.abc import Iterator
from xml.parsers import expat

_MAX_DEPTH = 40
_MAX_ELEMENTS = 500_000
_MAX_TEXT = 10_000


class XmlRefused(ValueError):
    """It is no XML, has a document type, or is larger or deeper than is read."""


class Element:
    """An element; of the document's own namespace it is named without it."""

    __slots__ = ("attributes", "children", "name", "text")

    def __init__(self, name: str, attributes: dict[str, str]) -> None:
        """Begin an element without children and text."""
        self.name = name
        self.attributes = attributes
        self.children: list[Element] = []
        self.text = ""

    def all(self, path: str) -> Iterator["Element"]:
        """Walk the elements at a path, as `GrpHdr/MsgId`."""
        step, _, rest = path.partition("/")
        for child in self.children:
            if child.name == step:
                if rest:
                    yield from child.all(rest)
                else:
                    yield child

    def at(self, path: str) -> "Element | None":
        """Give the first element at a path."""
        return next(self.all(path), None)

    def text_at(self, *paths: str) -> str | None:
        """Give the text of the first element that is at one of the paths."""
        for path in paths:
            found = self.at(path)
            if found is not None:
                return found.text.strip()
        return None


class _Builder:
    """Builds the tree, and refuses as soon as something is too much."""

    def __init__(self) -> None:
        self.root: Element | None = None
        self.namespace = ""
        self._open: list[Element] = []
        self._elements = 0
        self._texts: list[list[str]] = []
        self._length = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._elements += 1
        if self._elements > _MAX_ELEMENTS or len(self._open) >= _MAX_DEPTH:
            raise XmlRefused("size")
        namespace, _, local = name.rpartition(" ")
        if self.root is None:
            self.namespace = namespace
        element = Element(local if namespace == self.namespace else name, attributes)
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root = element
        self._open.append(element)
        self._texts.append([])
        self._length = 0

    def text(self, data: str) -> None:
        self._length += len(data)
        if self._length > _MAX_TEXT:
            raise XmlRefused("size")
        self._texts[-1].append(data)

    def end(self, _name: str) -> None:
        self._open.pop().text = "".join(self._texts.pop())
        self._length = 0


def _refuse(*_: object) -> None:
    raise XmlRefused("document type")


def read(content: bytes) -> tuple[str, Element]:
    """Give the namespace of a document and its root; raises XmlRefused."""
    builder = _Builder()
    # What the document says of its encoding is not asked: these messages are in UTF-8.
    parser = expat.ParserCreate("utf-8", " ")
    parser.StartDoctypeDeclHandler = _refuse
    parser.EntityDeclHandler = _refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.text
    try:
        parser.Parse(content, True)
    except expat.ExpatError:
        raise XmlRefused("not well-formed") from None
    if builder.root is None:
        raise XmlRefused("empty")
    return builder.namespace, builder.root
