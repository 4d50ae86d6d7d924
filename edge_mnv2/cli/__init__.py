"""The command line: thin functions that read options, call the application, and print.

Heavy modules are imported inside the commands, so that `--help` answers at once.
"""
