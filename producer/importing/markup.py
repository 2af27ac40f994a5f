"""XML, read by defusedxml and by nothing else: no entities, no DTD, no names outside the file."""

from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from producer.importing.errors import UnreadableRecording


def parse(path: Path, content: bytes) -> Element:
    """Read a document; its tags lose their namespaces, which apps write in many ways."""
    try:
        # Some apps write blanks before the declaration, which XML does not allow.
        root: Element = fromstring(content.lstrip(), forbid_dtd=True)
    except DefusedXmlException as error:
        raise UnreadableRecording(path, "declares a DTD or entities; a recording needs none") from (
            error
        )
    except (ParseError, ValueError, LookupError) as error:
        raise UnreadableRecording(path, f"is no well-formed XML ({error})") from error
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root
