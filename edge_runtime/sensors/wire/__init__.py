"""Wire protocols of wearables, one file each."""
