"""Site folders and readings from data sets of other shapes."""
