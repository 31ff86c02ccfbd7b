"""Tables of experiments: rows of compression steps over folds and seeds, cached, compared, reported."""
