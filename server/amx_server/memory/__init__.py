"""What instances remember: named values, maps, sets and lists, and how changes apply to them."""
