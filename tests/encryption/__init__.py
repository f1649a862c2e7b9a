"""Keys: accounts that encrypt every new volume, and principals that may use the keys of images."""
