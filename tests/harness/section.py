"""Tables of measurements within documents that are written by hand."""


def rewrite(document, target, lines):
    """Replaces what `make target` has written into the document before, between two comments."""
    begin, end = f"<!-- Written by `make {target}`. -->\n", "<!-- End of what was written. -->\n"
    before, found, rest = document.read_text().partition(begin)
    assert found, f"{document} has no place for `make {target}`"
    after = rest.partition(end)[2]
    document.write_text("".join([before, begin, "\n".join(["", *lines, "", ""]), end, after]))
