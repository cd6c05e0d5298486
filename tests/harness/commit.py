"""Which commit a page of results is of."""

from tests.harness.commands import run
from tests.harness.paths import REPOSITORY


def commit():
    """Its short name, and whether files differ from it."""
    git = ("git", f"--git-dir={REPOSITORY}/.git", f"--work-tree={REPOSITORY}")
    changes = " with changes" if run(*git, "status", "--porcelain", "--untracked-files=no").strip() else ""
    return run(*git, "rev-parse", "--short", "HEAD").strip() + changes
