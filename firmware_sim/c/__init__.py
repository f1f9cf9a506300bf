"""The C core, and the sources that `export_c` writes beside it."""
