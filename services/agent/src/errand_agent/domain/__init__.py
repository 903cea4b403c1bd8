"""What the agent service does, without knowing how it is reached or stored."""
