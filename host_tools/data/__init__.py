"""Records in, labelled examples out; splits by subject."""
