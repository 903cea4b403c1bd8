"""What the gateway decides: who may do what, how often, and what is written down."""
