"""The commit that a page of results belongs to."""

from tests.harness.commands import run
from tests.harness.paths import REPOSITORY


def commit():
    """The short name of the commit, and whether files differ from it."""
    git = ("git", f"--git-dir={REPOSITORY}/.git", f"--work-tree={REPOSITORY}")
    changes = " with changes" if run(*git, "status", "--porcelain", "--untracked-files=no").strip() else ""
    return run(*git, "rev-parse", "--short", "HEAD").strip() + changes
