"""The gateway's tables and the repositories that own every query on them."""
