"""What the registry knows about a checkpoint: convert, inspect, facts."""
