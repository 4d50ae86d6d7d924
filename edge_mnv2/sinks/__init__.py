"""Where results go. Each sink is one file behind the protocol in `sinks.base`."""
