"""Progress that a person looks at: counted in one place, drawn on a terminal, in a log or in a notebook."""
