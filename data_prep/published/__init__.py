"""Long lists of what publishers state of their files: sizes and checksums, kept apart from the code that reads."""
