"""Where the repository is, wherever in tests/ a test lies."""

from pathlib import Path

REPO = next(folder for folder in Path(__file__).resolve().parents if (folder / "pyproject.toml").is_file())
