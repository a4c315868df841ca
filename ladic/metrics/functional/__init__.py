"""Caption metrics as pure functions on lists of token lists."""
