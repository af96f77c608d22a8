"""What Home Assistant is told of: devices, their entities, and what is no longer there."""
