"""Sources of samples: wearables, recordings and a simulator, each opened by a URL."""
