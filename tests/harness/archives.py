"""Archives of code and layers, made by tests."""

import io
import zipfile

PROGRAM = 0o100755


def zipped(files, modes=None):
    """A zip of texts or bytes by name. `modes`: those that are no programs."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (modes or {}).get(name, PROGRAM) << 16
            archive.writestr(entry, text, zipfile.ZIP_DEFLATED)
    return content.getvalue()
