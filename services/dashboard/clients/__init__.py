"""Whom the dashboard asks: the gateway, the processes, the broker."""
