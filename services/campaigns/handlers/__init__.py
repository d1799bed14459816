"""What the stage decides, by the kind of input. Pure."""
