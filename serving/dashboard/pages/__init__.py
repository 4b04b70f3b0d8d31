"""The dashboard's pages and what they are built from."""
