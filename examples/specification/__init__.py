"""The two Python programs of the specification, and what stands in for the services they use.

`python -m examples.specification` runs both.
"""
