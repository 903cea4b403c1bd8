"""What callers can do; each is one or more transactions around the domain."""
