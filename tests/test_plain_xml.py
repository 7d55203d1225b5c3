"""XML of strangers is read within limits, and never fetches or expands anything."""

import pytest

from app import plain_xml
from app.plain_xml import XmlRefused


def test_what_stands_in_a_document_is_found_by_its_path() -> None:
    content = (
        '<?xml version="1.0" encoding="UTF-8"?><!-- a note --><d xmlns="urn:a" xmlns:b="urn:b">'
        '<p><n>一&amp;&lt;</n></p><p><n c="x"> 二\n</n><b:n>3</b:n></p></d>'
    )
    namespace, root = plain_xml.read(content.encode())
    assert (namespace, root.name) == ("urn:a", "d")
    assert [each.text.strip() for each in root.all("p/n")] == ["一&<", "二"]
    assert root.text_at("x/y", "p/n") == "一&<"
    assert root.text_at("p/x") is None
    second = list(root.all("p"))[1]
    assert second.children[0].attributes == {"c": "x"}
    assert second.children[1].name == "urn:b n"


_BOMB = b"".join(b'<!ENTITY a%d "%s">' % (n, b"&a%d;" % (n - 1) * 10) for n in range(1, 12))
_REFUSED = {
    "a bomb": b'<!DOCTYPE x [<!ENTITY a0 "ha">' + _BOMB + b"]><x>&a11;</x>",
    "a file": b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><x>&a;</x>',
    "a parameter": b'<!DOCTYPE x [<!ENTITY % a SYSTEM "http://127.0.0.1/a"> %a;]><x/>',
    "an outside document type": b'<!DOCTYPE x SYSTEM "http://127.0.0.1/x.dtd"><x/>',
    "an entity of nobody": b"<x>&nbsp;</x>",
    "too deep": b"<a>" * 41 + b"</a>" * 41,
    "too many": b"<x>" + b"<a/>" * 500_000 + b"</x>",
    "too long": b"<x>" + b"y" * 10_001 + b"</x>",
    "two roots": b"<x/><x/>",
    "nothing": b"",
    "not closed": b"<x>",
    "an undeclared prefix": b"<a:x/>",
    "other bytes": "<x>协会</x>".encode("gb18030"),
}


@pytest.mark.parametrize("what", _REFUSED)
def test_what_goes_beyond_is_refused(what: str) -> None:
    with pytest.raises(XmlRefused):
        plain_xml.read(_REFUSED[what])
