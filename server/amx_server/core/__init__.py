"""What every layer stands on: errors, clock, configuration, version. Imports nothing above itself."""
