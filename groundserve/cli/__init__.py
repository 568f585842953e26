"""The command line: `groundserve score|build|serve|doctor|compare`."""
