"""Stand-ins for hardware and for the libraries that come with it."""
