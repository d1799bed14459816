"""One module per group of subcommands, imported only when one of them runs."""
