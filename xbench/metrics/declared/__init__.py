"""What the harness's metrics declare about themselves, a module a family; nothing here imports torch."""
