"""AMX Engine: the server. Packages are layers; imports between them only point down (see CONTRIBUTING.md)."""
