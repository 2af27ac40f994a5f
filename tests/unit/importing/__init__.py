"""The import of recordings: what is read, what is refused, what is posted."""
