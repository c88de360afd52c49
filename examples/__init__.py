"""Programs to read and run. Nothing here is imported by the engine or the SDK."""
