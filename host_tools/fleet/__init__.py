"""Many targets at once: an inventory, waves, and the verbs of shipping over all of them."""
