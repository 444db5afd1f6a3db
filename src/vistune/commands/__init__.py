"""Commands of the command line with many options, one a file; `vistune.cli` has the others."""
