"""What a delivery worker does with each kind of input. Pure; split by what they handle."""
