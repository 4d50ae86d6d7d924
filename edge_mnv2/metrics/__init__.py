"""What the device and the loop say of themselves, as Prometheus reads it."""
