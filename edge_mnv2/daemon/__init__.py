"""The service: one process that is told its settings by a file, watched by systemd, asked by a socket."""
