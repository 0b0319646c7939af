"""What silicon/python offers to Python: the engine for the firmware, the client for the API."""
