"""The pipeline that makes lists: sources, filters, scorer, adjusters, selection, exploration, in one readable order."""
