"""A small town simulated with EPANET, its meters, and the events planted in it."""
