"""What a run costs: latency of its stages, memory, and (on devices that tell) power and heat."""
