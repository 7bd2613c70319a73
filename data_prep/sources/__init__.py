"""One module per dataset: its name is the file's stem. Shared code starts with an underscore."""
