"""What host and device must agree on: signals, conditioning, rhythm, manifest, bundle, report."""
