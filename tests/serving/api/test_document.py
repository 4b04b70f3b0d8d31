"""The published OpenAPI document is what the app says of itself."""

from pathlib import Path

from serving.api.document import document


def test_the_committed_document_is_what_the_app_says() -> None:
    committed = Path(__file__).parents[3] / "docs" / "openapi.json"
    assert committed.read_text() == document(), "run `make schemas`"
