"""The pure core of Nightline: readings in, evidence and alerts out. No I/O, no clock, no Kafka."""
