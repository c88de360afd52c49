"""What runs the cases: loading, values and matchers, the scripted engine, transports, outcomes, reports."""
