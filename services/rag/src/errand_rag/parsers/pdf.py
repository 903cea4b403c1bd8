"""PDF: text by page."""

import pypdfium2 as pdfium
from pypdfium2 import raw

from errand_rag.domain.errors import DocumentRejected
from errand_rag.domain.models import ParsedDocument, Section
from errand_rag.parsers.detection import PDF

_REASONS = {
    raw.FPDF_ERR_PASSWORD: "the PDF is encrypted; upload it without a password",
    raw.FPDF_ERR_SECURITY: "the PDF is encrypted in a way that cannot be read",
    raw.FPDF_ERR_FORMAT: "the PDF is damaged or cut off",
}


def parse(content: bytes, *, max_pages: int) -> ParsedDocument:
    """A section for each page that has text."""
    try:
        document = pdfium.PdfDocument(content)
    except pdfium.PdfiumError as error:
        code = getattr(error, "err_code", None)
        raise DocumentRejected(_REASONS.get(code, "the PDF cannot be opened")) from None
    with document:
        count = len(document)
        if count == 0:
            raise DocumentRejected("the PDF has no pages, or is cut off")
        if count > max_pages:
            raise DocumentRejected(f"the PDF has {count} pages, more than the {max_pages} allowed; split it")
        title = str(document.get_metadata_dict().get("Title", ""))
        sections = tuple(Section(text=_page_text(document, index), page=index + 1) for index in range(count))
    return ParsedDocument(media_type=PDF, sections=sections, title=title)


def _page_text(document: pdfium.PdfDocument, index: int) -> str:
    """A page that is damaged counts as empty: the others are still worth reading."""
    try:
        page = document[index]
        text_page = page.get_textpage()
    except pdfium.PdfiumError:
        return ""
    try:
        return str(text_page.get_text_bounded())
    finally:
        text_page.close()
        page.close()
